"""Images of any number of bands, as people's tools write them."""

from importlib.util import find_spec
from random import Random

import cv2
import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image

from adpe_mm.datasets import (
    Images,
    LoadImageFromFile,
    MultiCrop,
    SampleKey,
    UnreadableImage,
    count_bands,
    read_image,
    reading,
)
from tests.helpers import turned

SIZE = 40, 60


def smooth(bands, dtype=np.uint8, top=255, seed=0):
    """(40, 60, bands) between 0 and `top`, each band another image."""
    coarse = np.random.default_rng(seed).uniform(0, top, (5, 8, bands))
    parts = [cv2.resize(coarse[..., band], SIZE[::-1]) for band in range(bands)]
    return np.stack(parts, axis=-1).astype(dtype)


@pytest.fixture
def said(monkeypatch):
    """What the reader says, beginning anew."""
    texts = []
    monkeypatch.setattr(reading, 'print_log', lambda text, **_: texts.append(text))
    monkeypatch.setattr(reading, '_said', bytearray(8))
    return texts


def planes(values):
    return np.ascontiguousarray(values.transpose(2, 0, 1))


def interleaved(path, values, **options):
    tifffile.imwrite(path, values, photometric='minisblack', planarconfig='contig', **options)


WAYS = {
    'interleaved.tif': interleaved,
    'deflated.tif': lambda path, values: interleaved(path, values, compression='zlib'),
    'tiles.tif': lambda path, values: interleaved(path, values, tile=(16, 16)),
    'big-endian.tif': lambda path, values: interleaved(path, values, byteorder='>'),
    'big.tif': lambda path, values: interleaved(path, values, bigtiff=True),
    'planes.tif': lambda path, values: tifffile.imwrite(
        path, planes(values), photometric='minisblack', planarconfig='separate'
    ),
    'pages.tif': lambda path, values: tifffile.imwrite(
        path, planes(values), photometric='minisblack'
    ),
    'a-page-per-row.tif': lambda path, values: tifffile.imwrite(
        path, values, photometric='minisblack'
    ),
    'colours-first.tif': lambda path, values: tifffile.imwrite(
        path, values, photometric='rgb', planarconfig='contig'
    ),
    'last.npy': np.save,
    'first.npy': lambda path, values: np.save(path, planes(values)),
}


@pytest.mark.parametrize(
    'name, bands',
    # Four of which three are colours are RGBA, a format of its own.
    [(name, n) for name in WAYS for n in (4, 6, 13) if (name, n) != ('colours-first.tif', 4)],
)
def test_bands_of_8_bits_are_taken_as_they_are(tmp_path, name, bands):
    values = smooth(bands)
    WAYS[name](tmp_path / name, values)
    assert np.array_equal(read_image(tmp_path / name, channels=bands), values)
    if name != 'a-page-per-row.tif':  # of which only the wanted number tells
        assert count_bands(tmp_path / name) == bands


@pytest.mark.parametrize('name', WAYS)
@pytest.mark.parametrize(
    'dtype, top', [(np.uint16, 4095), (np.int16, 3000), (np.float32, 1), (np.float64, 1e-3)]
)
def test_each_band_of_another_depth_is_mapped_by_itself(tmp_path, name, dtype, top):
    """By percentiles by numpy's definition, from one range, or from one for each."""
    values = smooth(6, dtype, top)
    values[..., 5:] = smooth(1, dtype, top / 20, seed=1)  # a band of another range
    WAYS[name](tmp_path / name, values)
    wide = values.astype(float)
    low, high = np.quantile(wide, (0.01, 0.99), axis=(0, 1))
    own = [(-top * i / 10, top * (i + 1)) for i in range(6)]
    black, white = np.array(own).T
    if name == 'colours-first.tif':  # red, green and blue are mapped alike
        low[:3], high[:3] = np.quantile(wide[..., :3], (0.01, 0.99))
    for value_range, (first, last) in [
        (None, (low, high)),
        ((0, top), (np.zeros(6), np.full(6, top))),
        (own, (black, white)),
    ]:
        expected = ((wide - first) / (last - first)).clip(0, 1) * 255
        ranges = reading.check_value_range(value_range)
        found = read_image(tmp_path / name, ranges, channels=6)
        assert found.dtype == np.uint8 and np.abs(found - expected).max() <= 0.51
        loaded = LoadImageFromFile(value_range, channels=6)(dict(img_path=str(tmp_path / name)))
        assert np.array_equal(loaded['img'], found) and loaded['img_shape'] == SIZE


@pytest.mark.parametrize('orientation', range(1, 9))
def test_bands_are_turned_upright(tmp_path, orientation):
    upright = smooth(5)
    tag = [(ExifTags.Base.Orientation, 3, 1, orientation, True)]
    interleaved(tmp_path / 'a.tif', turned(upright, orientation), extratags=tag)
    assert np.array_equal(read_image(tmp_path / 'a.tif', channels=5), upright)


@pytest.mark.parametrize('name', ['a.png', 'a.webp', 'a.tif'])
def test_alpha_is_the_fourth_band_or_dropped_and_said_once(tmp_path, name, said):
    values = smooth(4)
    for i in range(2):
        options = dict(lossless=True, exact=True) if name == 'a.webp' else {}
        Image.fromarray(values, 'RGBA').save(tmp_path / f'{i}{name}', **options)
    assert np.array_equal(read_image(tmp_path / f'0{name}', channels=4), values)
    assert said == []
    for i in range(2):
        assert np.array_equal(read_image(tmp_path / f'{i}{name}'), values[..., :3])
    (text,) = said
    assert text.startswith(f"'{tmp_path / f'0{name}'}' has an alpha channel, which is dropped")


def test_deep_alpha_is_mapped_from_its_type(tmp_path, said):
    values = smooth(4, np.uint16, 4095)
    values[..., 3] = 65535  # opaque
    assert cv2.imwrite(str(tmp_path / 'a.png'), values[..., [2, 1, 0, 3]])
    found = read_image(tmp_path / 'a.png', channels=4)
    low, high = np.quantile(values[..., :3].astype(float), (0.01, 0.99))
    expected = np.interp(values[..., :3], (low, high), (0, 255))
    assert np.abs(found[..., :3] - expected).max() <= 0.51 and (found[..., 3] == 255).all()


def test_grey_is_one_band_and_colour_becomes_grey(tmp_path, said):
    grey, colour = smooth(1), smooth(3, seed=1)
    Image.fromarray(grey[..., 0]).save(tmp_path / 'grey.png')
    Image.fromarray(grey[..., 0]).save(tmp_path / 'grey.jpg', quality=100)
    Image.fromarray(np.concatenate([grey, grey // 2], -1), 'LA').save(tmp_path / 'alpha.png')
    Image.fromarray(colour).save(tmp_path / 'colour.png')
    np.save(tmp_path / 'grey.npy', grey[..., 0])
    for name in ('grey.png', 'grey.npy'):
        assert np.array_equal(read_image(tmp_path / name, channels=1), grey)
    found = read_image(tmp_path / 'grey.jpg', channels=1)
    assert found.shape == grey.shape and np.abs(found.astype(int) - grey).max() <= 2
    assert said == [] and count_bands(tmp_path / 'grey.jpg') == 1
    assert np.array_equal(read_image(tmp_path / 'alpha.png', channels=1), grey)
    assert np.array_equal(
        read_image(tmp_path / 'alpha.png', channels=2), np.concatenate([grey, grey // 2], -1)
    )
    found = read_image(tmp_path / 'colour.png', channels=1)[..., 0]
    expected = colour @ [0.299, 0.587, 0.114]  # ITU-R 601
    assert np.abs(found - expected).max() <= 1
    assert [text.split("'")[1].rpartition('/')[2] for text in said] == ['alpha.png', 'colour.png']
    # And RGB of grey is grey.
    assert np.array_equal(read_image(tmp_path / 'grey.png'), np.repeat(grey, 3, axis=2))


def test_of_red_green_blue_and_more_the_colours_are_taken_and_it_is_said(tmp_path, said):
    values = smooth(6)
    tifffile.imwrite(tmp_path / 'a.tif', values, photometric='rgb', planarconfig='contig')
    assert np.array_equal(read_image(tmp_path / 'a.tif'), values[..., :3])
    assert 'has 6 bands, of which red, green and blue are taken' in said[0]
    tifffile.imwrite(tmp_path / 'pages.tif', planes(values), photometric='minisblack')
    assert np.array_equal(read_image(tmp_path / 'pages.tif'), values[..., [0, 0, 0]])
    assert 'has 6 pages, of which the first is taken' in said[1] and len(said) == 2


WANTED = [(6, None), (6, 4), (3, 4), (3, 6), (5, 1), (2, None)]


@pytest.mark.parametrize(
    'name, bands, wanted',
    [(name, *numbers) for name in ('interleaved.tif', 'last.npy') for numbers in WANTED]
    + [('rgb.png', *numbers) for numbers in WANTED if numbers[0] == 3],
)
def test_another_number_of_bands_is_one_sentence(tmp_path, name, bands, wanted):
    path = tmp_path / name
    if name == 'rgb.png':
        Image.fromarray(smooth(3)).save(path)
    else:
        WAYS[name](path, smooth(bands))
    text = f'it has {bands} bands, and {wanted or 3} are wanted: set model.backbone.in_channels='
    with pytest.raises(UnreadableImage, match=text):
        read_image(path, channels=wanted)
    with pytest.raises(UnreadableImage, match=f"cannot read '.*{name}': {text}"):
        LoadImageFromFile(channels=wanted)(dict(img_path=str(path)))


def test_compressions_that_need_a_library_say_which(tmp_path):
    interleaved(tmp_path / 'a.tif', smooth(6), compression='zlib')
    content = bytearray((tmp_path / 'a.tif').read_bytes())
    with tifffile.TiffFile(tmp_path / 'a.tif') as file:
        place = file.pages[0].tags['Compression'].valueoffset
    content[place : place + 2] = (5).to_bytes(2, 'little')  # LZW
    (tmp_path / 'lzw.tif').write_bytes(content)
    if find_spec('imagecodecs') is None:
        with pytest.raises(UnreadableImage, match='pip install imagecodecs'):
            read_image(tmp_path / 'lzw.tif', channels=6)


@pytest.mark.parametrize(
    'array',
    [np.zeros(5), np.zeros((2, 3, 4, 5)), np.zeros((4, 4), complex), np.array([[{}]], object)],
    ids=['1-d', '4-d', 'complex', 'object'],
)
def test_arrays_that_are_no_images(tmp_path, array):
    np.save(tmp_path / 'a.npy', array, allow_pickle=True)
    with pytest.raises(UnreadableImage):
        read_image(tmp_path / 'a.npy', channels=4)


def test_an_array_of_truth_values_is_black_and_white(tmp_path):
    values = smooth(2) > 128
    np.save(tmp_path / 'a.npy', values)
    assert np.array_equal(read_image(tmp_path / 'a.npy', channels=2), values * 255)


def test_a_pair_for_each_band_or_a_sentence(tmp_path):
    interleaved(tmp_path / 'a.tif', smooth(6, np.uint16, 999))
    with pytest.raises(ValueError, match='value_range has 2 pairs .* and the image 6 bands'):
        read_image(tmp_path / 'a.tif', ((0, 1), (0, 2)), channels=6)
    for wrong in ([(0, 1), (5, 2)], [(0, 1), (0, 1, 2)]):
        with pytest.raises(ValueError, match='value_range must be'):
            MultiCrop(value_range=wrong, channels=2)


@pytest.mark.parametrize('bands', [1, 2, 4, 5, 6, 13])
def test_crops_are_pillows_of_each_band(tmp_path, bands):
    values = smooth(bands)
    np.save(tmp_path / 'a.npy', values)
    crop = MultiCrop(3, (16, 24), (0.2, 1), channels=bands)
    sample = crop(dict(img_path=str(tmp_path / 'a.npy'), rng=Random(0)))
    boxes = crop._boxes(dict(rng=Random(0)), SIZE)
    assert sample['crops'].shape == (3, bands, 16, 24)
    for found, (left, top, right, bottom) in zip(sample['crops'], boxes, strict=True):
        for band in range(bands):
            part = Image.fromarray(values[top:bottom, left:right, band].copy())
            expected = np.asarray(part.resize((24, 16), Image.Resampling.BICUBIC), int)
            difference = np.abs(found[band].numpy() - expected)
            assert difference.max() <= 2 and difference.mean() < 0.3


def test_pillow_resizes_rgb_only():
    with pytest.raises(ValueError, match="backend='pillow' resizes RGB only"):
        MultiCrop(backend='pillow', channels=4)


def test_arrays_are_images_where_bands_are_stated_and_a_wrong_file_is_replaced(tmp_path):
    for i in range(4):
        np.save(tmp_path / f'{i}.npy', smooth(6, seed=i))
    interleaved(tmp_path / 'wrong.tif', smooth(5))
    pipeline = [
        dict(type='adpe_mm.MultiCrop', num_crops=2, size=8, channels=6),
        dict(type='adpe_mm.PackCrops'),
    ]
    dataset = Images(data_root=str(tmp_path), pipeline=pipeline)
    assert len(dataset) == 5
    samples = [dataset[SampleKey(i, 0, 0)] for i in range(5)]
    assert all(sample['inputs'].shape == (2, 6, 8, 8) for sample in samples)
    named = samples[4]['unreadable'][0]
    assert named.startswith(f'{tmp_path}/wrong.tif (it has 5 bands, and 6 are wanted')
    # Of photographs they are none, and what is said tells why nothing was found.
    (tmp_path / 'wrong.tif').unlink()
    del pipeline[0]['channels']
    with pytest.raises(FileNotFoundError, match=r'no image .*not used are 4 \.npy'):
        Images(data_root=str(tmp_path), pipeline=pipeline)
