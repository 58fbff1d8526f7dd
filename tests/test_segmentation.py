"""What the ADE20K configs test with is what the published results were tested with."""

from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope, init_default_scope

from adpe_mm.registry import TRANSFORMS

SEG = Path(__file__).parents[1] / 'configs' / 'seg'
ADE20K = sorted(path for path in SEG.glob('*.py') if 'ade20k' in path.stem)


@pytest.fixture(autouse=True)
def scope():
    before = DefaultScope.get_current_instance()
    init_default_scope('mmseg')
    yield
    if before is not None:
        DefaultScope.get_instance(before.instance_name)


def scale_of_mmseg_0x(height, width, ratio, size):
    """Size of the image that `Resize(min_size=size)` of mmsegmentation 0.x makes.

    mmseg/datasets/pipelines/transforms.py: the short edge is the smaller number of ``img_scale``
    times the ratio, or min_size if that is larger; the long one follows. ``img_scale`` is
    (4 * size, size).
    """
    short = max(int(size * ratio), size)
    factor = short / min(height, width)
    return int(height * factor + 0.5), int(width * factor + 0.5)


@pytest.mark.parametrize('size', [512, 640])
@pytest.mark.parametrize(
    'height, width', [(512, 683), (683, 512), (256, 256), (2100, 1575), (300, 1900), (96, 640)]
)
def test_scales_of_the_multi_scale_test(size, height, width):
    """At the last two shapes a long edge of 4 times the short one would be the smaller limit."""
    cfg = Config.fromfile(SEG / f'upernet_adpe-vit-l_160k_ade20k-{size}x{size}.py')
    resizes, flips = cfg.tta_pipeline[1].transforms[:2]
    ratios = [0.5, 0.75, 1.0, 1.25, 1.5, 1.75]
    image = np.zeros((height, width, 3), np.uint8)
    found = [TRANSFORMS.build(resize)(dict(img=image))['img'].shape[:2] for resize in resizes]
    assert found == [scale_of_mmseg_0x(height, width, ratio, size) for ratio in ratios]
    assert min(map(min, found)) == size
    assert [flip.prob for flip in flips] == [0, 1]


@pytest.mark.parametrize('path', ADE20K, ids=lambda path: path.stem)
def test_every_config_has_a_multi_scale_one(path):
    """It differs in ``tta`` alone, which tools/test.py reads."""
    if path.stem.endswith('-ms'):
        assert path.with_stem(path.stem.removesuffix('-ms')) in ADE20K
        return
    cfg = Config.fromfile(path)
    many = Config.fromfile(path.with_stem(f'{path.stem}-ms'))
    assert many.tta is True and 'tta' not in cfg
    assert {key: value for key, value in many.items() if key != 'tta'} == dict(cfg)


@pytest.mark.parametrize('path', ADE20K, ids=lambda path: path.stem)
def test_sizes_agree(path):
    """Crop, padding, the backbone's grid and the window that slides are of the size of the name."""
    cfg = Config.fromfile(path)
    side = int(path.stem.removesuffix('-ms').rpartition('x')[2])
    transforms = {t.type: t for t in cfg.train_dataloader.dataset.pipeline}
    assert transforms['RandomCrop'].crop_size == (side, side)
    assert transforms['RandomResize'].scale == (4 * side, side)
    assert cfg.val_dataloader.dataset.pipeline[1].scale == (4 * side, side)
    assert cfg.model.data_preprocessor.size == (side, side)
    assert cfg.model.backbone.img_size == side
    assert cfg.model.test_cfg.crop_size == (side, side)
    assert cfg.model.test_cfg.stride == (side * 2 // 3, side * 2 // 3)
