"""What the detection recipes share with detectron2's ViTDet, beside the network."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from adpe_mm.engine import LayerDecayOptimWrapperConstructor
from adpe_mm.registry import MODELS, TRANSFORMS

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


def test_jitter_moves_polygons_with_the_image(tmp_path):
    """A drawn polygon, jittered, is where the annotation says; and so are its boxes."""
    cfg = Config.fromfile(CONFIGS / 'mask-rcnn_adpe-vit-b_100e_coco.py')
    init_default_scope('mmdet')
    pipeline = [TRANSFORMS.build(step) for step in cfg.train_dataloader.dataset.pipeline]
    shapes = [
        np.array([60, 40, 420, 80, 300, 300, 90, 260.0]),
        np.array([560, 400, 630, 410, 600, 470.0]),
    ]
    image = np.zeros((480, 640, 3), np.uint8)
    cv2.fillPoly(image, [shape.reshape(-1, 1, 2).astype(int) for shape in shapes], (255, 255, 255))
    cv2.imwrite(str(tmp_path / 'image.png'), image)
    instances = []
    for label, shape in enumerate(shapes):
        x, y = shape[0::2], shape[1::2]
        box = [x.min(), y.min(), x.max(), y.max()]
        mask = [shape.tolist()]
        instances.append(dict(bbox=box, bbox_label=label, mask=mask, ignore_flag=0))
    np.random.seed(0)
    seen = set()
    for _ in range(30):
        info = dict(img_path=str(tmp_path / 'image.png'), height=480, width=640, img_id=0)
        found = Compose(pipeline)(dict(info, instances=instances))
        if found is None:  # nothing of the objects is left
            continue
        sample, pixels = found['data_samples'], found['inputs'][0].numpy()
        assert max(pixels.shape) <= 1024 and pixels.shape == sample.img_shape
        objects = sample.gt_instances
        drawn = objects.masks.to_ndarray().any(axis=0)
        assert (drawn != (pixels > 127)).sum() < 4 * sum(pixels.shape)  # along outlines
        for polygons, box in zip(objects.masks, objects.bboxes.tensor.tolist(), strict=True):
            points = np.concatenate(polygons).reshape(-1, 2)
            assert box == pytest.approx([*points.min(axis=0), *points.max(axis=0)], abs=1e-3)
        seen.add((sample.flip, pixels.shape == (1024, 1024), len(objects)))
    flipped, cropped, objects = map(set, zip(*seen, strict=True))
    assert flipped == cropped == {False, True} and {1, 2} <= objects
