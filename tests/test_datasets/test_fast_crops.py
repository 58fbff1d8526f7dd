"""The fast path of `MultiCrop`, from JPEG files, against Pillow."""

import io
import struct

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from scipy.stats import ks_2samp
from skimage import data
from torchvision.transforms import RandomResizedCrop

from adpe_mm.datasets import LoadImage, MultiCrop, UnreadableImage, transforms
from adpe_mm.datasets.transforms import align, decode_jpeg, jpeg_size, resample, resized_crop_boxes

SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
TURNED = Image.Exif()
TURNED[ExifTags.Base.Orientation] = 6  # by 90 degrees
PHOTOS = ['astronaut', 'cat', 'coffee', 'rocket', 'retina', 'hubble_deep_field']


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    """JPEGs of the photographs that scikit-image ships."""
    folder = tmp_path_factory.mktemp('photos')
    for name in PHOTOS:
        Image.fromarray(getattr(data, name)()).save(folder / f'{name}.jpg', quality=92)
    return sorted(folder.iterdir())


def record_reductions(monkeypatch):
    """Reductions that images are decoded at, as they come."""
    used = []

    def decode(content, size, reduction=1):
        used.append(reduction)
        return decode_jpeg(content, size, reduction)

    monkeypatch.setattr(transforms, 'decode_jpeg', decode)
    return used


# Reached, of mean and largest: 0.13 and 0.24 (of 255) decoded at full size, 0.32 and 0.82 reduced.
@pytest.mark.parametrize('gap, mean, largest', [(None, 0.2, 0.5), (1.5, 0.6, 2.0)])
def test_crops_equal_pillows_antialiased_bicubic(photos, monkeypatch, gap, mean, largest):
    """Mean absolute differences of each crop, in levels of 255."""
    reductions = record_reductions(monkeypatch)
    differences = []
    for number, path in enumerate(photos):
        whole = Image.open(path).convert('RGB')
        size = whole.height, whole.width
        for side in (112, 56):
            for key in range(6):
                transform = MultiCrop(4, side, flip_prob=0.0, reducing_gap=gap)
                rng = np.random.default_rng((number, key))
                crops = transform(dict(img_path=str(path), rng=rng))['crops']
                rng = np.random.default_rng((number, key))
                boxes = resized_crop_boxes(rng, size, 4, SCALE, RATIO)
                for crop, box in zip(crops, boxes, strict=True):
                    cut = whole.crop(align(box, size, reductions[-1]))
                    expected = np.array(cut.resize((side, side), Image.Resampling.BICUBIC), int)
                    difference = np.abs(crop.permute(1, 2, 0).numpy() - expected).mean()
                    if gap is None or reductions[-1] > 1:
                        differences.append(difference)
    assert set(reductions) == ({1} if gap is None else {1, 2, 4, 8})
    assert len(differences) > 50
    assert np.mean(differences) < mean and max(differences) < largest


def test_crops_are_as_exact_as_pillows():
    """Both round to levels after each axis; Pillow's filter of float32 does not round at all."""
    errors = []
    rng = np.random.default_rng(0)
    for name in PHOTOS:
        photo = getattr(data, name)()
        for box in resized_crop_boxes(rng, photo.shape[:2], 24, SCALE, RATIO):
            ours = np.empty((112, 112, 3), np.uint8)
            resample(photo, box, ours)
            whole = Image.fromarray(photo).crop(box)
            theirs, *exact = (
                np.array(image.resize((112, 112), Image.Resampling.BICUBIC))
                for image in [whole, *(band.convert('F') for band in whole.split())]
            )
            exact = np.stack(exact, -1).clip(0, 255)
            errors.append([np.abs(crop - exact).mean() for crop in (ours, theirs)])
    ours, theirs = np.mean(errors, 0)
    assert 0.2 < ours < 1.02 * theirs


def test_reduced_images_have_boxes_of_the_same_distribution():
    size = (1500, 2000)
    boxes = resized_crop_boxes(np.random.default_rng(0), size, 4000, SCALE, RATIO)
    moved = np.array([align(box, size, 4) for box in boxes])
    assert np.abs(moved - boxes).max() <= 4  # at the border it must be inwards
    assert np.abs((moved - boxes).mean(0)).max() < 0.2
    assert (moved[:, :2] % 4 == 0).all() and (moved[:, :2] >= 0).all()
    assert (moved[:, 2] <= 2000).all() and (moved[:, 3] <= 1500).all()
    image = torch.empty(3, *size)
    theirs = np.array([RandomResizedCrop.get_params(image, SCALE, RATIO) for _ in range(4000)])
    left, top, right, bottom = moved.T
    for ours, expected in zip((top, left, bottom - top, right - left), theirs.T, strict=True):
        assert ks_2samp(ours, expected).pvalue > 1e-4


def test_a_crop_is_never_enlarged_by_reduction(photos, monkeypatch):
    reductions = record_reductions(monkeypatch)
    path = next(path for path in photos if path.stem == 'retina')  # 1411 x 1411
    for scale, expected in [((0.08, 0.08), 2), ((0.3, 0.3), 4), ((1.0, 1.0), 8)]:
        transform = MultiCrop(2, 112, scale=scale, ratio=(1.0, 1.0), reducing_gap=1.5)
        transform(dict(img_path=str(path), rng=np.random.default_rng(0)))
        assert reductions[-1] == expected


def encode(image, **options):
    file = io.BytesIO()
    image.save(file, 'JPEG', **options)
    return file.getvalue()


@pytest.mark.parametrize(
    'mode, options',
    [
        ('RGB', {}),
        ('RGB', dict(progressive=True)),
        ('RGB', dict(subsampling=0)),
        ('RGB', dict(keep_rgb=True)),
        ('RGB', dict(exif=TURNED)),
        ('RGB', dict(comment=b'x' * 1000, icc_profile=b'y' * 100_000)),
        ('L', {}),
    ],
)
def test_ordinary_jpegs_are_decoded_as_pillow_does(mode, options):
    image = Image.fromarray(data.astronaut()).resize((123, 77)).convert(mode)
    content = encode(image, **options)
    assert jpeg_size(content) == (77, 123)
    expected = Image.open(io.BytesIO(content)).convert('RGB')
    assert np.array_equal(decode_jpeg(content, (77, 123)), expected)
    assert decode_jpeg(content, (77, 123), 8).shape == (10, 16, 3)


@pytest.mark.parametrize('reduction', [2, 4, 8])
def test_a_reduced_jpeg_is_what_libjpeg_makes_of_it(photos, reduction):
    content = photos[0].read_bytes()
    height, width = jpeg_size(content)
    pillow = Image.open(io.BytesIO(content))
    pillow.draft('RGB', (width // reduction, height // reduction))
    assert np.array_equal(decode_jpeg(content, (height, width), reduction), pillow)


@pytest.mark.parametrize('size', [(1, 1), (5, 7), (8, 1), (9, 300)])
def test_a_tiny_jpeg_is_decoded_whole(size):
    content = encode(Image.fromarray(data.astronaut()).resize(size[::-1]))
    assert jpeg_size(content) == size
    assert np.array_equal(decode_jpeg(content, size), Image.open(io.BytesIO(content)))


def test_anything_else_is_left_to_pillow(monkeypatch):
    rgb = Image.fromarray(data.astronaut()).resize((64, 48))
    whole = encode(rgb)
    frame = whole.index(b'\xff\xc0')
    cut = whole[: frame + 4] + whole[-2:]
    no_height = whole[: frame + 5] + struct.pack('>H', 0) + whole[frame + 7 :]
    png = io.BytesIO()
    rgb.save(png, 'PNG')
    for content in b'', b'\xff\xd8', cut, no_height, encode(rgb.convert('CMYK')), png.getvalue():
        assert jpeg_size(content) is None
    twelve_bits = whole[: frame + 4] + b'\x0c' + whole[frame + 5 :]
    arithmetic = whole[: frame + 1] + b'\xc9' + whole[frame + 2 :]
    for content in whole[:-2], whole[: len(whole) // 2], twelve_bits, arithmetic:
        assert decode_jpeg(content, (48, 64)) is None
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 1000)
    assert jpeg_size(whole) is None


@pytest.mark.parametrize('name', ['grey.jpg', 'cmyk.jpg', 'deep.png', 'palette.png', 'rgb.webp'])
def test_every_kind_of_file_is_cut_as_pillow_opens_it(tmp_path, name):
    rgb = Image.fromarray(data.astronaut()).resize((123, 77))
    kinds = dict(
        grey=rgb.convert('L'),
        cmyk=rgb.convert('CMYK'),
        deep=Image.fromarray(np.array(rgb.convert('L'), np.uint16) * 257),
        palette=rgb.quantize(32),
        rgb=rgb,
    )
    path = str(tmp_path / name)
    kinds[name.partition('.')[0]].save(path)
    fast, slow = (
        MultiCrop(3, 32, backend=backend)(dict(img_path=path, rng=np.random.default_rng(1)))
        for backend in ('torch', 'pillow')
    )
    assert (fast['crops'].float() - slow['crops']).abs().mean() < 0.3
    loaded = LoadImage()(dict(img_path=path))['img']
    given = MultiCrop(3, 32)(dict(img=loaded, rng=np.random.default_rng(1)))
    assert torch.equal(given['crops'], fast['crops'])


def test_what_the_fast_decoder_refuses_pillow_may_take(photos, monkeypatch):
    monkeypatch.setattr(transforms, 'decode_jpeg', lambda *_: None)
    results = dict(img_path=str(photos[0]), rng=np.random.default_rng(0))
    assert MultiCrop()(results)['crops'].shape == (4, 3, 112, 112)


def test_damage_leaves_crops_or_an_unreadable_image(tmp_path):
    rng = np.random.default_rng(0)
    whole = encode(Image.fromarray(data.astronaut()).resize((96, 64)))
    path = tmp_path / 'damaged.jpg'
    unreadable = 0
    for trial in range(60):
        content = bytearray(whole)
        if trial % 2:
            del content[rng.integers(len(content)) :]
        else:
            for place in rng.integers(0, min(700, len(content)), 3):
                content[place] = rng.integers(256)
        path.write_bytes(content)
        results = dict(img_path=str(path), rng=np.random.default_rng(0))
        try:
            crops = MultiCrop(2, 16, reducing_gap=1.5)(results)['crops']
            assert crops.shape == (2, 3, 16, 16)
        except UnreadableImage:
            unreadable += 1
    assert 30 <= unreadable < 60
