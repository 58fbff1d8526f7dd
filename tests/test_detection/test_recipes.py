"""What the detection recipes share with detectron2's ViTDet, beside the network."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from adpe_mm.engine import LayerDecayOptimWrapperConstructor
from adpe_mm.registry import MODELS

CONFIGS = Path(__file__).parents[2] / 'configs' / 'det'


def settings_of(name):
    """The network of a config, and (lr, weight decay) of each of its parameters."""
    cfg = Config.fromfile(CONFIGS / name)
    init_default_scope('mmdet')
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    groups = LayerDecayOptimWrapperConstructor(
        dict(optimizer=cfg.optim_wrapper.optimizer), cfg.optim_wrapper.paramwise_cfg
    ).param_groups(model, cfg.optim_wrapper.optimizer)
    decay = cfg.optim_wrapper.optimizer.weight_decay
    return model, {
        id(param): (group['lr'], group.get('weight_decay', decay))
        for group in groups
        for param in group['params']
    }


@pytest.mark.parametrize('detector', ['mask-rcnn', 'cascade-mask-rcnn'])
@pytest.mark.parametrize('size, rate', [('b', 0.7), ('l', 0.8)])
@pytest.mark.parametrize('ape', ['', '-ape'])
def test_lr_and_weight_decay_are_those_of_detectron2(detector, size, rate, ape):
    """``get_vit_lr_decay_rate`` and ``get_default_optimizer_params(weight_decay_norm=0)``.

    Its list of norms has torch's LayerNorm, but not its own of channels, which pyramid and heads
    have; and in ViTDet-H it is not used.
    """
    name = f'{detector}_adpe-vit-{size}{ape}_100e_coco.py'
    model, settings = settings_of(name)
    blocks = model.backbone.num_layers
    seen = 0
    for module_name, module in model.named_modules():
        for param_name, param in module.named_parameters(recurse=False):
            depth = blocks + 1
            if module_name.startswith('backbone.layers.'):
                depth = int(module_name.split('.')[2]) + 1
            elif param_name == 'pos_embed' or module_name.startswith('backbone.patch_embed'):
                depth = 0
            decay = 0.0 if type(module) is nn.LayerNorm or param_name == 'pos_embed' else 0.1
            lr = 1e-4 * rate ** (blocks + 1 - depth)
            assert settings[id(param)] == (pytest.approx(lr), decay), (module_name, param_name)
            seen += 1
    assert seen == len(settings)
