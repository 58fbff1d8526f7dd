import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from adpe_mm.datasets.tiles import tile_photos, tile_starts

TOOL = Path(__file__).parents[2] / 'tools' / 'dataset_converters' / 'tile_photos.py'


def noise(height, width, seed=0):
    """Smooth enough for JPEG to keep."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (height // 10 + 1, width // 10 + 1, 3)).astype(np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def listing(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob('*.*'))


@given(st.integers(1, 3000), st.integers(1, 600), st.data())
def test_tiles_cover_everything(length, size, data):
    overlap = data.draw(st.integers(0, size - 1))
    starts = tile_starts(length, size, overlap)
    assert starts[0] == 0
    assert starts[-1] == max(length - size, 0)
    assert all(0 < b - a <= size - overlap for a, b in zip(starts, starts[1:], strict=False))
    # As few as can be: with one less, the strides would have to be too long.
    assert (len(starts) - 2) * (size - overlap) < max(length - size, 1)


def test_tiles_are_the_pixels_of_the_photograph(tmp_path):
    photo = noise(250, 330)
    (tmp_path / 'src' / 'holiday').mkdir(parents=True)
    photo.save(tmp_path / 'src' / 'holiday' / 'a.png')
    counts = tile_photos(tmp_path / 'src', tmp_path / 'out', size=100)
    assert counts == dict(read=1, tiles=12)
    assert len(listing(tmp_path / 'out')) == 12
    for path in (tmp_path / 'out' / 'holiday').iterdir():
        top, left = map(int, path.stem.removeprefix('a.png-').split('-'))
        part = np.asarray(photo)[top : top + 100, left : left + 100].astype(int)
        tile = np.asarray(Image.open(path)).astype(int)
        assert tile.shape == (100, 100, 3)
        assert np.abs(tile - part).mean() < 3


def test_a_long_one_is_cut_along_its_length_only(tmp_path):
    (tmp_path / 'src').mkdir()
    noise(60, 250).save(tmp_path / 'src' / 'a.png')
    tile_photos(tmp_path / 'src', tmp_path / 'out', size=100, overlap=20)
    assert listing(tmp_path / 'out') == ['a.png-0-0.jpg', 'a.png-0-150.jpg', 'a.png-0-75.jpg']
    assert Image.open(tmp_path / 'out' / 'a.png-0-75.jpg').size == (100, 60)


def test_small_uniform_unreadable_and_other_files(tmp_path, capsys):
    src, out = tmp_path / 'src', tmp_path / 'out'
    src.mkdir()
    noise(80, 90).save(src / 'small.webp')
    noise(80, 90).quantize(16).save(src / 'small.gif')  # not a format that training reads
    Image.new('RGB', (300, 300), 'skyblue').save(src / 'sky.png')
    half = Image.new('RGB', (200, 100), 'skyblue')
    half.paste(noise(100, 100), (0, 0))
    half.save(src / 'half.png')
    (src / 'broken.jpg').write_bytes((src / 'half.png').read_bytes()[:500])
    (src / 'notes.txt').write_text('no image')
    counts = tile_photos(src, out, size=100)
    assert counts == dict(read=4, unreadable=1, copied=1, tiles=2, uniform=10)
    assert listing(out) == ['half.png-0-0.jpg', 'small.gif-0-0.jpg', 'small.webp']
    assert (out / 'small.webp').read_bytes() == (src / 'small.webp').read_bytes()
    assert 'broken.jpg' in capsys.readouterr().err


def test_orientation_and_depth(tmp_path):
    """EXIF's orientation is applied, and 16-bit grey is not clipped."""
    src = tmp_path / 'src'
    src.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    image = noise(50, 250)
    image.save(src / 'turned.jpg', exif=exif, quality=95)
    grey = np.asarray(noise(150, 50).convert('L')).astype(np.uint16) * 256
    Image.fromarray(grey).save(src / 'deep.png')
    tile_photos(src, tmp_path / 'out', size=125, value_range=(0, 65535))
    tile = np.asarray(Image.open(tmp_path / 'out' / 'turned.jpg-0-0.jpg')).astype(int)
    assert tile.shape == (125, 50, 3)
    assert np.abs(tile - np.rot90(np.asarray(image), -1)[:125]).mean() < 6
    deep = np.asarray(Image.open(tmp_path / 'out' / 'deep.png-25-0.jpg').convert('L'))
    assert np.abs(deep - (grey[25:] >> 8).astype(int)).mean() < 3


def test_mistakes(tmp_path):
    src, out = tmp_path / 'src', tmp_path / 'out'
    with pytest.raises(FileNotFoundError, match='there is no folder'):
        tile_photos(src, out)
    src.mkdir()
    with pytest.raises(FileNotFoundError, match='there is no image'):
        tile_photos(src, out)
    Image.new('RGB', (30, 30)).save(src / 'black.png')
    with pytest.raises(ValueError, match='lower --min-std'):
        tile_photos(src, out)
    with pytest.raises(ValueError, match='name another folder'):
        tile_photos(src, src / 'tiles')
    with pytest.raises(FileExistsError, match='not empty'):
        tile_photos(src, tmp_path)
    for wrong in (dict(size=0), dict(size=10, overlap=10), dict(overlap=-1), dict(quality=0)):
        with pytest.raises(ValueError, match='must lie in'):
            tile_photos(src, out, **wrong)


def test_command(tmp_path):
    (tmp_path / 'src').mkdir()
    noise(100, 200).save(tmp_path / 'src' / 'a.png')
    environment = dict(os.environ, PYTHONPATH=str(TOOL.parents[2]))
    command = [sys.executable, TOOL, tmp_path / 'src', tmp_path / 'out', '--size', '100']
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    assert '2 tiles and 0 copies of 1 images' in run.stdout
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert run.returncode == 1
    assert run.stderr.startswith('tile_photos: ') and 'not empty' in run.stderr
