"""What the detection recipes share with detectron2's ViTDet, beside the network."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS, init_default_scope
from torch import nn

from adpe_mm.engine import LayerDecayOptimWrapperConstructor
from adpe_mm.engine.schedules import in_iterations
from adpe_mm.evaluation.results import head_of
from adpe_mm.models.layers.norm import BranchNorm
from adpe_mm.registry import MODELS, TRANSFORMS

CONFIGS = Path(__file__).parents[2] / 'configs' / 'det'


RECIPES = sorted(path.stem for path in CONFIGS.glob('*_coco.py'))


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
@pytest.mark.parametrize(
    'size, rate, length', [('b', 0.7, '100e'), ('l', 0.8, '100e'), ('h', 0.9, '75e')]
)
@pytest.mark.parametrize('ape', ['', '-ape'])
def test_lr_and_weight_decay_are_those_of_detectron2(detector, size, rate, length, ape):
    """``get_vit_lr_decay_rate`` and ``get_default_optimizer_params(weight_decay_norm=0)``.

    Its list of norms has torch's LayerNorm, but not its own of channels, which pyramid and heads
    have; and in ViTDet-H it is not used.
    """
    name = f'{detector}_adpe-vit-{size}{ape}_{length}_coco.py'
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
            spared = type(module) in (nn.LayerNorm, BranchNorm) or param_name == 'pos_embed'
            decay = 0.0 if spared and size != 'h' else 0.1
            lr = 1e-4 * rate ** (blocks + 1 - depth)
            assert settings[id(param)] == (pytest.approx(lr), decay), (module_name, param_name)
            seen += 1
    assert seen == len(settings)


# Iterations, images per iteration, lr; then, of the whole training, warm-up and steps. detectron2:
# projects/ViTDet/configs/COCO, configs/common/coco_schedule.py (1x); AdPE: README.md, detection/.
STEPS = (163889 / 184375, 177546 / 184375)
SOURCES = {
    '100e': (184375, 64, 1e-4, 250 / 184375, STEPS),
    '75e': (184375 * 3 // 4, 64, 1e-4, 250 / 184375, STEPS),
    '400k': (400000, 32, 5e-5, 250 / 184375, STEPS),
    '25e': (184375, 16, 1e-4, 1000 / 184375, STEPS),  # 64 images per step of the optimiser
    '1x': (90000, 16, 1e-4, 1000 / 90000, (2 / 3, 8 / 9)),
}
EPOCHS = {'100e': 100, '75e': 75, '25e': 25, '1x': 12, '400k': 108.5}


@pytest.mark.parametrize('name', RECIPES)
def test_length_batch_and_schedule_are_those_of_the_source(name):
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    kind = name.split('_')[-2]
    iterations, images, lr, warm_up, steps = SOURCES[kind]
    assert cfg.train_cfg.max_iters == iterations
    assert iterations * images / 118000 == pytest.approx(EPOCHS[kind], rel=0.02)
    gpus = dict(b=32, l=64, h=64)[name[name.index('vit-') + 4]] if images == 64 else 8
    assert gpus * cfg.train_dataloader.batch_size == images
    accumulated = cfg.optim_wrapper.get('accumulative_counts', 1)
    assert images * accumulated == cfg.auto_scale_lr.base_batch_size
    assert cfg.optim_wrapper.optimizer.lr == lr
    # The whole training in 10000 iterations; to 1.5 of them, as mmengine's warm-up is shorter.
    length = 10000
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedules = [
        PARAM_SCHEDULERS.build(dict(in_iterations(schedule, length), optimizer=optimizer))
        for schedule in cfg.param_scheduler
    ]

    def factor(at):
        rising = min(max(at / warm_up, 0), 1)
        return (0.001 + 0.999 * rising) * 0.1 ** sum(at >= step for step in steps)

    for iteration in range(length):
        low, high = sorted(factor((iteration + more) / length) for more in (-1.5, 1.5))
        assert low * (1 - 1e-6) <= optimizer.param_groups[0]['lr'] <= high * (1 + 1e-6)
        optimizer.step()
        for schedule in schedules:
            schedule.step()


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


@pytest.mark.parametrize('detector', ['faster-rcnn', 'cascade-rcnn'])
def test_boxes_alone_are_the_same_recipe(detector):
    """But for the masks: of the network, of the data, and of the evaluation."""
    cfg = Config.fromfile(CONFIGS / f'{detector}_adpe-vit-b_100e_coco.py')
    name = detector.replace('faster', 'mask').replace('cascade', 'cascade-mask')
    whole = Config.fromfile(CONFIGS / f'{name}_adpe-vit-b_100e_coco.py')
    kinds = {'faster-rcnn': 'Faster R-CNN', 'cascade-rcnn': 'Cascade R-CNN'}
    assert head_of(cfg.model) == kinds[detector]
    assert head_of(whole.model) == kinds[detector].replace('Faster', 'Mask').replace(
        'Cascade', 'Cascade Mask'
    )
    init_default_scope('mmdet')
    names = []
    for config in (cfg, whole):
        with torch.device('meta'):
            names.append([name for name, _ in MODELS.build(config.model).named_parameters()])
    assert names[0] == [name for name in names[1] if 'roi_head.mask_head' not in name]
    for config in (cfg, whole):
        config.model = None
        for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
            (loads,) = [s for s in config[loader].dataset.pipeline if 'with_mask' in s]
            assert loads.pop('with_mask') == (config is whole)
        for evaluator in (config.val_evaluator, config.test_evaluator):
            assert ('segm' in evaluator.pop('metric')) == (config is whole)
    assert cfg.to_dict() == whole.to_dict()
