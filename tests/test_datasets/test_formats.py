"""Whatever lies in a folder: odd formats, broken files, odd folders and lists."""

import gc
import io
import warnings
from random import Random

import cv2
import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image

from adpe_mm.datasets import (
    Images,
    LoadImage,
    LoadImageFromFile,
    MultiCrop,
    SampleKey,
    UnreadableImage,
    reading,
)
from tests.helpers import save_turned, turned

TURNED = Image.Exif()
TURNED[ExifTags.Base.Orientation] = 6  # by 90 degrees


def photo(size=(96, 64)):
    """Smooth, so that lossy formats keep it."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(40, 215, (4, 6, 3), dtype=np.uint8))
    return small.resize(size, Image.Resampling.BICUBIC)


def load(path, value_range=None):
    return np.asarray(LoadImage(value_range)(dict(img_path=str(path)))['img'], dtype=int)


@pytest.mark.parametrize(
    'name, options',
    [
        ('rgb.jpg', {}),
        ('progressive.jpg', dict(progressive=True)),
        ('full-chroma.jpg', dict(subsampling=0)),
        ('rgb.webp', dict(lossless=True)),
        ('rgb.tif', dict(compression='tiff_lzw')),
        ('rgb.bmp', {}),
        ('turned.jpg', dict(exif=TURNED)),
    ],
)
def test_equals_opencv(tmp_path, name, options):
    """An independent decoder, which turns a JPEG upright too."""
    photo().save(tmp_path / name, **options)
    expected = cv2.imread(str(tmp_path / name))[..., ::-1].astype(int)
    loaded = load(tmp_path / name)
    assert loaded.shape == expected.shape == ((96, 64, 3) if 'exif' in options else (64, 96, 3))
    assert np.abs(loaded - expected).mean() < 1.5


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('name', ['a.png', 'a.webp', 'a.tif', 'a.jpg'])
def test_every_loader_turns_upright(tmp_path, name, orientation):
    save_turned(photo(), tmp_path / name, orientation)
    upright = np.asarray(photo(), int)
    info = dict(img_path=str(tmp_path / name))
    tolerance = 30 if name.endswith('jpg') else 0  # a lossy one still tells the corners apart
    pixels = load(tmp_path / name)
    assert pixels.shape == upright.shape and np.abs(pixels - upright).max() <= tolerance
    of_tasks = LoadImageFromFile()(dict(info))
    assert np.array_equal(of_tasks['img'][..., ::-1], pixels)
    assert of_tasks['img_shape'] == of_tasks['ori_shape'] == (64, 96)
    # One crop of nearly all: a box of all, of the image's own aspect, is not resized.
    whole = dict(size=(64, 96), num_crops=1, scale=(1, 1), ratio=(1.5, 1.5), flip_prob=0)
    for backend in ('torch', 'pillow'):
        crop = MultiCrop(backend=backend, **whole)(dict(info, rng=Random(0)))['crops'][0]
        assert np.abs(crop.permute(1, 2, 0).numpy() - upright).max() <= tolerance


@pytest.mark.parametrize('orientation', range(1, 9))
def test_a_reduced_jpeg_is_turned_too(tmp_path, orientation):
    image = photo((1203, 810))
    save_turned(image, tmp_path / 'a.jpg', orientation)
    crop = MultiCrop(1, (81, 120), (1, 1), (1.48, 1.49), flip_prob=0, reducing_gap=1.0)
    found = crop(dict(img_path=str(tmp_path / 'a.jpg'), rng=Random(0)))['crops'][0]
    expected = np.asarray(image.resize((120, 81), Image.Resampling.BICUBIC), int)
    assert np.abs(found.permute(1, 2, 0).numpy() - expected).mean() < 0.8


def test_a_broken_orientation_is_none(tmp_path):
    for value in (0, 9):
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = value
        photo().save(tmp_path / 'a.png', exif=exif)
        assert np.array_equal(load(tmp_path / 'a.png'), photo())
    photo().save(tmp_path / 'b.png', exif=b'Exif\0\0no tags')
    assert np.array_equal(load(tmp_path / 'b.png'), photo())


def test_inks(tmp_path):
    """CMYK as Photoshop writes it: inverted, marked by Adobe's segment."""
    inks = {(0, 255, 255, 0): (255, 0, 0), (255, 0, 0, 0): (0, 255, 255), (0, 0, 0, 255): (0, 0, 0)}
    for i, (ink, expected) in enumerate(inks.items()):
        path = tmp_path / f'{i}.jpg'
        Image.new('CMYK', (16, 16), ink).save(path, quality=100)
        assert b'Adobe' in path.read_bytes()
        assert np.abs(load(path) - expected).max() <= 3
        assert np.abs(load(path) - cv2.imread(str(path))[..., ::-1]).max() <= 3


def test_deep_colours(tmp_path):
    """16 bits per channel, written by OpenCV; grey, RGB, and RGB with alpha."""
    rng = np.random.default_rng(0)
    deep = rng.integers(0, 65536, (20, 30, 4), dtype=np.uint16)
    cases = {'grey.png': deep[..., :1], 'rgb.png': deep[..., :3], 'alpha.png': deep}
    for name, pixels in cases.items():
        assert cv2.imwrite(str(tmp_path / name), pixels)
        expected = pixels[..., :3][..., ::-1] >> 8
        assert np.abs(load(tmp_path / name, (0, 65535)) - expected).max() <= 1, name


def test_deep_grey_of_any_byte_order(tmp_path):
    shades = np.linspace(0, 65535, 600).reshape(20, 30).astype(np.uint16)
    for order, mode, kind in [(b'II', 'I;16', '<u2'), (b'MM', 'I;16B', '>u2')]:
        path = tmp_path / 'deep.tif'
        Image.frombytes(mode, (30, 20), shades.astype(kind).tobytes()).save(path)
        assert path.read_bytes()[:2] == order
        assert np.abs(load(path, (0, 65535)) - (shades >> 8)[..., None]).max() <= 1
    # Dark as a whole, beside others that are not: stays dark.
    Image.fromarray((shades // 512).astype(np.uint16)).save(tmp_path / 'dark.png')
    assert load(tmp_path / 'dark.png', (0, 65535)).max() == 0


def write(path, values):
    """By a library of TIFF, or OpenCV."""
    if path.suffix == '.tif':
        photometric = 'rgb' if values.ndim == 3 else 'minisblack'
        tifffile.imwrite(path, values, photometric=photometric)
    else:
        assert cv2.imwrite(str(path), values if values.ndim == 2 else values[..., ::-1])


@pytest.mark.parametrize('channels', [(), (3,)], ids=['grey', 'rgb'])
@pytest.mark.parametrize(
    'name, dtype, low, high',
    [
        ('a.png', np.uint16, 0, 4095),  # 12 bits in 16, as of microscopes and cameras
        ('a.tif', np.uint16, 200, 4000),
        ('a.tif', np.int16, -1024, 3071),  # Hounsfield units
        ('a.tif', np.int32, -200_000, 100_000),
        ('a.tif', np.float32, 0, 1),
        ('a.tif', np.float64, -1e-4, 1e-4),
        ('a.tif', np.int8, -100, 100),
    ],
)
def test_values_of_any_depth(tmp_path, name, dtype, low, high, channels):
    """A ramp: by percentiles from numpy's definition, or from a fixed range."""
    ramp = np.linspace(low, high, 5000).reshape(50, 100)
    stored = (ramp if np.issubdtype(dtype, np.floating) else ramp.round()).astype(dtype)
    values = stored if not channels else np.stack([stored, stored[::-1], stored[:, ::-1]], -1)
    write(tmp_path / name, values)
    shown = values if channels else values[..., None]
    first, last = np.quantile(values.astype(float), (0.01, 0.99))
    for given, (black, white) in [(None, (first, last)), ((low, high), (low, high))]:
        expected = np.interp(shown, (black, white), (0, 255))
        pixels = load(tmp_path / name, given)
        assert pixels.shape == (50, 100, 3) and np.abs(pixels - expected).max() <= 0.51
        assert len(np.unique(pixels)) > 200 or dtype == np.int8
        bgr = LoadImageFromFile(given)(dict(img_path=str(tmp_path / name)))['img']
        assert np.array_equal(bgr[..., ::-1], pixels)
        crop = MultiCrop(1, (50, 100), (1, 1), (2, 2), 0, value_range=given)
        cut = crop(dict(img_path=str(tmp_path / name), rng=Random(0)))['crops'][0]
        assert np.array_equal(cut.permute(1, 2, 0), pixels)


def test_unsigned_values_of_32_bits(tmp_path):
    """Half of them are negative to Pillow."""
    values = np.linspace(0, 2**32 - 1, 600).reshape(20, 30).astype(np.uint32)
    write(tmp_path / 'a.tif', values)
    expected = np.interp(values, (0, 2**32 - 1), (0, 255))[..., None]
    assert np.abs(load(tmp_path / 'a.tif', (0, 2**32 - 1)) - expected).max() <= 0.51


@pytest.mark.parametrize('orientation', range(1, 9))
def test_deep_images_are_turned_upright(tmp_path, orientation):
    upright = np.random.default_rng(0).integers(0, 4096, (20, 30, 3), dtype=np.uint16)
    expected = np.interp(upright, (0, 4095), (0, 255))
    stored = turned(upright, orientation)
    tag = [(ExifTags.Base.Orientation, 3, 1, orientation, True)]
    tifffile.imwrite(tmp_path / 'rgb.tif', stored, photometric='rgb', extratags=tag)
    tifffile.imwrite(tmp_path / 'grey.tif', stored[..., 0], extratags=tag)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(np.ascontiguousarray(stored[..., 0])).save(tmp_path / 'grey.png', exif=exif)
    for name in ('rgb.tif', 'grey.tif', 'grey.png'):
        found = load(tmp_path / name, (0, 4095))
        assert found.shape == (20, 30, 3)
        assert np.abs(found - (expected if 'rgb' in name else expected[..., :1])).max() <= 0.51


def test_gaps_and_outliers_of_floats(tmp_path):
    values = np.linspace(0, 1, 10_000, dtype=np.float32).reshape(100, 100)
    values[0, :6] = np.nan, np.inf, -np.inf, 1e30, -1e30, np.nan
    write(tmp_path / 'a.tif', values)
    pixels = load(tmp_path / 'a.tif')
    assert pixels[0, :6, 0].tolist() == [0, 255, 0, 255, 0, 0]
    assert np.abs(pixels[1:, :, 0] - np.interp(values[1:], (0.01, 0.99), (0, 255))).max() < 1
    # A sky with few stars: percentiles fall together.
    sky = np.full((100, 100), 300, np.uint16)
    sky[40:42, 7] = 1000, 650
    write(tmp_path / 'sky.tif', sky)
    assert load(tmp_path / 'sky.tif')[39:43, 7, 0].tolist() == [0, 255, 128, 0]


def test_empty_images_are_named_once(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(reading, 'print_log', lambda text, **_: said.append(text))
    write(tmp_path / 'flat.tif', np.full((40, 50), 7, np.uint16))
    write(tmp_path / 'clipped.tif', np.linspace(0, 1, 2000, dtype=np.float32).reshape(40, 50))
    Image.new('RGB', (50, 40), (9, 99, 199)).save(tmp_path / 'flat.jpg')
    photo().save(tmp_path / 'photo.jpg')
    for _ in range(2):
        load(tmp_path / 'flat.tif')
        load(tmp_path / 'clipped.tif')
        load(tmp_path / 'clipped.tif', (0, 65535))
        load(tmp_path / 'photo.jpg')
        MultiCrop(1, 16)(dict(img_path=str(tmp_path / 'flat.jpg'), rng=Random(0)))
    named = [text.split(' looks empty')[0] for text in said]
    assert named == [f"'{tmp_path / name}'" for name in ('flat.tif', 'clipped.tif', 'flat.jpg')]


@pytest.mark.parametrize('value_range', [(5, 5), (9, 1), (1, 2, 3), (np.nan, 1)])
@pytest.mark.parametrize('loader', [LoadImage, LoadImageFromFile, MultiCrop])
def test_no_range(loader, value_range):
    with pytest.raises(ValueError, match=r'value_range must be \(low, high\)'):
        loader(value_range=value_range)


def test_palette_with_a_transparent_colour(tmp_path):
    image = photo().quantize(8)
    image.save(tmp_path / 'palette.png', transparency=3)
    expected = np.asarray(photo().quantize(8).convert('RGB'), int)
    with warnings.catch_warnings():
        warnings.simplefilter('error')  # Pillow's, of every such image of ImageNet
        assert np.array_equal(load(tmp_path / 'palette.png'), expected)


def test_whatever_is_broken_is_unreadable(tmp_path):
    """Any damage either leaves an image or raises `UnreadableImage`, nothing else."""
    rng = np.random.default_rng(0)
    path = tmp_path / 'damaged'
    damaged = 0
    for kind in ('JPEG', 'PNG', 'WEBP', 'BMP'):
        whole = io.BytesIO()
        photo().save(whole, kind)
        for trial in range(60):
            content = bytearray(whole.getvalue())
            if trial % 2:
                del content[rng.integers(len(content)) :]
            else:
                for place in rng.integers(0, min(200, len(content)), 3):
                    content[place] = rng.integers(256)
            path.write_bytes(content)
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')
                try:
                    assert load(path).ndim == 3
                except UnreadableImage:
                    damaged += 1
    assert damaged > 80


def test_any_error_of_the_decoder_counts(tmp_path, monkeypatch):
    """Some damage makes Pillow raise a TypeError: it must not end a run of weeks."""

    def broken(*args, **kwargs):
        raise TypeError('of a broken header')

    photo().save(tmp_path / 'a.png')
    monkeypatch.setattr(Image, 'open', broken)
    with pytest.raises(UnreadableImage, match='of a broken header'):
        load(tmp_path / 'a.png')


def test_absurdly_large_images_are_unreadable(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 1000)
    photo().save(tmp_path / 'bomb.png')
    with pytest.raises(UnreadableImage, match='decompression bomb'):
        load(tmp_path / 'bomb.png')


@pytest.mark.parametrize('size', [(1, 1), (1, 300), (300, 1), (3, 2)])
def test_tiny_images_can_be_cut(size):
    results = dict(img=photo(size), rng=np.random.default_rng(0))
    assert MultiCrop(num_crops=8, size=(16, 24))(results)['crops'].shape == (8, 3, 16, 24)


def names(dataset, folder):
    paths = [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]
    return [path.removeprefix(f'{folder}/') for path in paths]


def test_links_in_a_circle_and_hidden_folders(tmp_path):
    for name in ('b/2.jpg', 'b/.thumbnails/2.jpg', '.cache/1.jpg', 'c/3.JPG'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / 'b' / 'up').symlink_to(tmp_path)
    (tmp_path / 'a').symlink_to(tmp_path / 'c')  # the same folder twice: once, by its first name
    assert names(Images(data_root=str(tmp_path)), tmp_path) == ['a/3.JPG', 'b/2.jpg']


def test_lists_keep_every_line(tmp_path):
    """A path without a known extension is taken as it is; it is named if it cannot be read."""
    lines = ['hash0123', 'hash4567 12', 'a b.webp', 'a b.webp 3', '/elsewhere/c.png', 'd.gif']
    (tmp_path / 'list.txt').write_text('\n'.join(lines))
    dataset = Images(data_root=str(tmp_path), ann_file='list.txt')
    expected = ['hash0123', 'hash4567', 'a b.webp', 'a b.webp', '/elsewhere/c.png', 'd.gif']
    assert names(dataset, tmp_path) == expected


def test_memory_does_not_grow_with_the_images(tmp_path):
    """No Python object per image, neither before nor after they were asked for."""
    (tmp_path / 'list.txt').write_text('\n'.join(f'n{i // 100:05}/{i}.jpg' for i in range(50_000)))
    gc.collect()
    before = len(gc.get_objects())
    dataset = Images(data_root=str(tmp_path), ann_file='list.txt')
    gc.collect()
    assert len(gc.get_objects()) - before < 1000
    assert dataset.data_bytes.nbytes < 200 * len(dataset)  # bytes; fork shares them
    for index in range(0, 50_000, 50):
        dataset.get_data_info(index)
    gc.collect()
    assert len(gc.get_objects()) - before < 1000


def test_replacements_are_the_same_each_time(tmp_path):
    for i in range(12):
        photo().rotate(30 * i).save(tmp_path / f'{i:02}.png')
    for i in range(0, 12, 3):
        (tmp_path / f'{i:02}.png').write_bytes(b'')
    pipeline = [dict(type='adpe_mm.LoadImage')]
    dataset = Images(data_root=str(tmp_path), pipeline=pipeline)
    samples = [[dataset[SampleKey(i, epoch, 0)] for i in range(12)] for epoch in (0, 0, 1)]
    first, again, next_epoch = ([sample['img_path'] for sample in epoch] for epoch in samples)
    assert first == again != next_epoch
