"""A trained network for other classes: the advice of the refusal works, and says what it leaves."""

import argparse
import logging
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope, init_default_scope
from mmengine.runner import BaseLoop

from adpe_mm.checkpoints import leave_behind
from adpe_mm.engine import CheckpointFitHook
from adpe_mm.launch import add_config_arguments
from adpe_mm.options import merge_options

CONFIGS = Path(__file__).parents[2] / 'configs'
CLASSES = {
    'cls/adpe-vit-mini_mini.py': (['head.num_classes'], {'head.fc.weight', 'head.fc.bias'}),
    'seg/upernet_adpe-vit-mini_mini.py': (
        ['decode_head.num_classes', 'auxiliary_head.num_classes'],
        {f'{part}.conv_seg.{kind}' for part in ('decode_head', 'auxiliary_head')
         for kind in ('weight', 'bias')},
    ),
    'det/mask-rcnn_adpe-vit-mini_mini.py': (
        ['roi_head.bbox_head.num_classes', 'roi_head.mask_head.num_classes'],
        {f'roi_head.{part}.{kind}' for part in
         ('bbox_head.fc_cls', 'bbox_head.fc_reg', 'mask_head.conv_logits')
         for kind in ('weight', 'bias')},
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def scope():
    before = DefaultScope.get_current_instance()
    yield
    if before is not None:
        DefaultScope.get_instance(before.instance_name)


class Loop(BaseLoop):
    def run(self):
        pass


def load(hook, model, weights, resume=False, trains=True):
    """What the runner does with a checkpoint, on its way to training."""
    runner = SimpleNamespace(
        model=model,
        logger=logging.getLogger('heads'),
        _resume=resume,
        _train_loop=Loop.__new__(Loop) if trains else dict(type='Loop'),  # built to train only
    )
    checkpoint = dict(model=weights)
    hook.after_load_checkpoint(runner, checkpoint)
    model.load_state_dict(checkpoint.get('state_dict', weights))


@pytest.mark.parametrize('config', CLASSES)
def test_the_advice_works_and_says_what_is_left(config, caplog):
    keys, left = CLASSES[config]
    cfg = Config.fromfile(CONFIGS / config)
    init_default_scope(cfg.default_scope)
    cfg.model.backbone.init_cfg = None
    source = MODELS.build(cfg.model)
    for param in source.parameters():
        torch.nn.init.normal_(param)
    weights = source.state_dict()
    cfg.merge_from_dict({f'model.{key}': 3 for key in keys})
    model = MODELS.build(cfg.model)
    own = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match='of another shape') as error:
        load(CheckpointFitHook(), model, weights)
    advice = re.search(r'--cfg-options .*', str(error.value))[0]
    parser = argparse.ArgumentParser()
    add_config_arguments(parser)
    merge_options(cfg, parser.parse_args(['x.py', *advice.split()]).cfg_options)
    settings = {k: v for k, v in cfg.default_hooks.checkpoint_fit.items() if k != 'type'}
    hook = CheckpointFitHook(**settings)
    with caplog.at_level(logging.WARNING, 'heads'):
        load(hook, model, weights)
    said = re.search('left behind, and begun anew: (.*)', caplog.text)[1]
    assert set(said.split(', ')) == left
    for name, value in model.state_dict().items():
        assert torch.equal(value, own[name] if name in left else weights[name]), name
    # A test and a resumed run are of the whole network.
    for how in (dict(resume=True), dict(trains=False)):
        with pytest.raises(ValueError, match='of another shape') as error:
            load(hook, model, weights, **how)
        assert 'leave' not in str(error.value)


def test_another_network_has_no_such_advice():
    cfg = Config.fromfile(CONFIGS / 'cls/adpe-vit-mini_mini.py')
    init_default_scope(cfg.default_scope)
    cfg.model.backbone.init_cfg = None
    source = MODELS.build(cfg.model)
    cfg.merge_from_dict({'model.head.num_classes': 3, 'model.backbone.arch.num_layers': 3})
    model = MODELS.build(cfg.model)
    with pytest.raises(ValueError, match='unexpected') as error:
        load(CheckpointFitHook(), model, source.state_dict())
    assert 'leave' not in str(error.value)
    with pytest.raises(ValueError, match="'head.fcc', and neither"):
        leave_behind(model, source.state_dict(), ['head.fcc'])
    # What only one of the two has can be left too, such as an auxiliary head.
    model = torch.nn.ModuleDict(dict(a=torch.nn.Linear(1, 1), b=torch.nn.Linear(1, 1)))
    other = torch.nn.ModuleDict(dict(a=torch.nn.Linear(1, 1), c=torch.nn.Linear(1, 1)))
    weights, left = leave_behind(model, other.state_dict(), ['b', 'c'])
    model.load_state_dict(weights)
    assert torch.equal(model['a'].weight, other['a'].weight) and len(left) == 4
