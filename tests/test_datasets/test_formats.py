"""Whatever lies in a folder: odd formats, broken files, odd folders and lists."""

import gc
import io
import warnings
from random import Random

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image

from adpe_mm.datasets import (
    Images,
    LoadImage,
    LoadImageFromFile,
    MultiCrop,
    SampleKey,
    UnreadableImage,
)
from tests.helpers import save_turned

TURNED = Image.Exif()
TURNED[ExifTags.Base.Orientation] = 6  # by 90 degrees


def photo(size=(96, 64)):
    """Smooth, so that lossy formats keep it."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(40, 215, (4, 6, 3), dtype=np.uint8))
    return small.resize(size, Image.Resampling.BICUBIC)


def load(path):
    return np.asarray(LoadImage()(dict(img_path=str(path)))['img'], dtype=int)


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
        assert np.abs(load(tmp_path / name) - expected).max() <= 1, name


def test_deep_grey_of_any_byte_order(tmp_path):
    shades = np.linspace(0, 65535, 600).reshape(20, 30).astype(np.uint16)
    for order, mode, kind in [(b'II', 'I;16', '<u2'), (b'MM', 'I;16B', '>u2')]:
        path = tmp_path / 'deep.tif'
        Image.frombytes(mode, (30, 20), shades.astype(kind).tobytes()).save(path)
        assert path.read_bytes()[:2] == order
        assert np.abs(load(path) - (shades >> 8)[..., None]).max() <= 1
    # Dark as a whole: stays dark, is not stretched.
    Image.fromarray((shades // 512).astype(np.uint16)).save(tmp_path / 'dark.png')
    assert load(tmp_path / 'dark.png').max() == 0


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
