import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import ks_2samp
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms import functional as TF

from adpe_mm.datasets.transforms import (
    ClampedResizedCrop,
    LoadImage,
    MultiCrop,
    resized_crop_boxes,
)

SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)


def make_image(size=(50, 40), seed=0):
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8))
    return small.resize(size, Image.Resampling.BICUBIC)


@pytest.mark.parametrize('size', [(375, 500), (500, 333), (40, 400)])
def test_boxes_have_the_distribution_of_torchvision(size):
    rng = np.random.default_rng(0)
    ours = np.array(resized_crop_boxes(rng, size, 4000, SCALE, RATIO))
    ours = np.stack([ours[:, 1], ours[:, 0], ours[:, 3] - ours[:, 1], ours[:, 2] - ours[:, 0]], 1)
    image = torch.empty(3, *size)
    theirs = np.array([RandomResizedCrop.get_params(image, SCALE, RATIO) for _ in range(4000)])
    for axis in range(4):  # top, left, height, width
        # 1 in 10,000 that equal distributions fail; the seeds are fixed.
        assert ks_2samp(ours[:, axis], theirs[:, axis]).pvalue > 1e-4, axis
    assert (ours[:, :2] >= 0).all()
    assert (ours[:, 0] + ours[:, 2] <= size[0]).all() and (ours[:, 1] + ours[:, 3] <= size[1]).all()


@pytest.mark.parametrize('backend, tolerance', [('pillow', 0), ('torch', 1)])
def test_crops_equal_torchvision_for_the_same_boxes(backend, tolerance):
    image = make_image((200, 150))
    transform = MultiCrop(num_crops=6, size=(24, 32), flip_prob=0.0, backend=backend)
    crops = transform(dict(img=image, rng=np.random.default_rng(3)))['crops']
    rng = np.random.default_rng(3)
    # The same draws: all boxes come first.
    boxes = resized_crop_boxes(rng, (150, 200), 6, SCALE, RATIO)
    for crop, (left, top, right, bottom) in zip(crops, boxes, strict=True):
        expected = TF.resized_crop(
            image, top, left, bottom - top, right - left, (24, 32), TF.InterpolationMode.BICUBIC
        )
        difference = crop.int() - TF.pil_to_tensor(expected).int()
        assert difference.abs().max() <= tolerance


def test_which_crops_are_mirrored():
    for probability, expected in [(0.0, [False] * 3), (1.0, [True] * 3)]:
        results = dict(img=make_image(), rng=np.random.default_rng(5))
        assert MultiCrop(3, 16, flip_prob=probability)(results)['mirrored'] == expected
    results = MultiCrop(400, 4)(dict(img=make_image(), rng=np.random.default_rng(0)))
    assert 160 < sum(results['mirrored']) < 240


def load(path):
    return LoadImage()(dict(img_path=str(path)))['img']


def test_colour_spaces(tmp_path):
    rgb = make_image()
    for name, image, expected, tolerance in [
        ('rgb.png', rgb, rgb, 0),
        ('rgb.webp', rgb, rgb, 12),
        ('grey.png', rgb.convert('L'), rgb.convert('L').convert('RGB'), 0),
        ('grey.jpg', rgb.convert('L'), rgb.convert('L').convert('RGB'), 6),
        ('cmyk.jpg', rgb.convert('CMYK'), rgb, 12),
        ('palette.png', rgb.quantize(16), rgb.quantize(16).convert('RGB'), 0),
        ('one-bit.png', rgb.convert('1'), rgb.convert('1').convert('RGB'), 0),
        ('scan.tif', rgb, rgb, 0),
        ('pixels.bmp', rgb, rgb, 0),
    ]:
        image.save(tmp_path / name, quality=95)
        loaded = load(tmp_path / name)
        assert loaded.mode == 'RGB'
        difference = np.abs(np.asarray(loaded, int) - np.asarray(expected, int))
        assert np.percentile(difference, 95) <= tolerance, name


def test_alpha_is_dropped(tmp_path):
    rgba = make_image().convert('RGBA')
    rgba.putalpha(Image.linear_gradient('L').resize(rgba.size))
    rgba.save(tmp_path / 'alpha.png')
    assert np.array_equal(np.asarray(load(tmp_path / 'alpha.png')), np.asarray(make_image()))


@pytest.mark.parametrize(
    'kwargs',
    [
        dict(num_crops=0),
        dict(scale=(0.0, 1.0)),
        dict(scale=(0.5, 0.2)),
        dict(ratio=(2.0, 1.0)),
        dict(flip_prob=1.5),
        dict(reducing_gap=0.5),
        dict(backend='opencv'),
        dict(backend='pillow', reducing_gap=2.0),
    ],
)
def test_mistakes(kwargs):
    with pytest.raises(ValueError, match='MultiCrop'):
        MultiCrop(**kwargs)


@pytest.mark.parametrize('size', [(60, 80), (50, 50), (30, 200), (9, 1)])
def test_the_crop_of_linear_probing_is_that_of_mae(size):
    """MAE's `util/crop.py`: one draw each of area, aspect, top and left; then PIL's resizing."""
    image = np.array(make_image(size[::-1]))
    crop = ClampedResizedCrop(size=(24, 32))
    clamped = 0
    for seed in range(50):
        np.random.seed(seed)
        results = crop(dict(img=image.copy(), img_shape=size))
        rng = np.random.RandomState(seed)  # the same draws
        area = rng.uniform(0.08, 1.0) * size[0] * size[1]
        aspect = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
        wanted = np.rint([np.sqrt(area / aspect), np.sqrt(area * aspect)]).astype(int)
        h, w = np.clip(wanted, 1, size)
        clamped += (wanted > size).any()
        top, left = rng.randint(0, size[0] - h + 1), rng.randint(0, size[1] - w + 1)
        expected = TF.resized_crop(
            Image.fromarray(image), top, left, h, w, (24, 32), TF.InterpolationMode.BICUBIC
        )
        assert np.array_equal(results['img'], np.asarray(expected)), seed
        assert results['img_shape'] == (24, 32) and results['img'].flags.writeable
    assert clamped  # a box that the usual crop would draw anew


@pytest.mark.parametrize(
    'options, message',
    [(dict(scale=(0.5, 1.1)), 'scale must be a range'), (dict(ratio=(2, 1)), 'ratio must be a')],
)
def test_mistakes_about_the_crop_of_linear_probing(options, message):
    with pytest.raises(ValueError, match=message):
        ClampedResizedCrop(**options)
