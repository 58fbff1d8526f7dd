"""embed.py writes what extract_features gives."""

import subprocess
import sys
import tracemalloc
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from adpe_mm import extract_features, get_model
from adpe_mm.evaluation import feature_files
from adpe_mm.evaluation.feature_files import write_features
from tests.helpers import tiny_config, tiny_model

TOOL = Path(__file__).parents[2] / 'tools' / 'embed.py'


def run(*arguments):
    return subprocess.run(
        [sys.executable, TOOL, *map(str, arguments)], capture_output=True, text=True
    )


@pytest.fixture
def trained(tmp_path):
    """A checkpoint, and images of which one is broken."""
    meta = dict(cfg=Config(dict(model=tiny_config())).pretty_text)
    torch.save(dict(state_dict=tiny_model().state_dict(), meta=meta), tmp_path / 'epoch_1.pth')
    (tmp_path / 'images' / 'more').mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(5):
        pixels = rng.integers(0, 255, (50 + i, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / 'images' / 'more' / f'ä {i}.png')
    (tmp_path / 'images' / 'broken.jpg').write_bytes(b'broken')
    return tmp_path


def test_npz(trained):
    for token in ('mean', 'cls'):
        out = trained / 'new' / f'{token}.npz'
        done = run(
            trained / 'epoch_1.pth', trained / 'images', '--out', out, '--token', token,
            '--batch-size', 2, '--workers', 0, '--device', 'cpu',
        )  # fmt: skip
        assert done.returncode == 0 and 'wrote 5 x 24 features' in done.stdout, done.stderr
        assert 'broken.jpg' in done.stdout + done.stderr and '6/6' in done.stderr
        model = get_model(trained / 'epoch_1.pth')
        expected, paths = extract_features(model, trained / 'images', token, batch_size=2)
        written = np.load(out)
        np.testing.assert_array_equal(written['features'], expected)
        assert written['features'].dtype == np.float32 and written['paths'].tolist() == paths
    assert sorted(p.name for p in (trained / 'new').iterdir()) == ['cls.npz', 'mean.npz']


def test_mistakes_are_named_in_one_sentence(trained):
    for arguments, sentence in [
        (('no.pth', trained / 'images', '--out', 'x.npz'), 'there is no checkpoint'),
        ((trained / 'epoch_1.pth', trained / 'no', '--out', 'x.npz'), 'no image or folder'),
        ((trained / 'epoch_1.pth', trained / 'images', '--out', 'x.csv'), '.npz or .parquet'),
    ]:
        done = run(*arguments, '--workers', 0)
        assert done.returncode == 1
        assert sentence in done.stderr and 'Traceback' not in done.stderr, done.stderr


def batches(number, rows=3):
    rng = np.random.default_rng(0)
    for i in range(number):
        features = rng.standard_normal((rows, 4)).astype(np.float32)
        yield features, [f'images/{i}/{j}.png' for j in range(rows)]


def test_many_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(feature_files, 'ROWS', 7)
    assert write_features(tmp_path / 'x.npz', batches(10)) == (30, 4)
    features, paths = zip(*batches(10), strict=True)
    written = np.load(tmp_path / 'x.npz')
    np.testing.assert_array_equal(written['features'], np.concatenate(features))
    assert written['paths'].tolist() == sum(paths, [])


def test_memory_is_bounded(tmp_path):
    def many():
        for i in range(64):
            yield np.full((256, 768), i, np.float32), [f'{i}/{j}.png' for j in range(256)]

    tracemalloc.start()
    write_features(tmp_path / 'x.npz', many())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (tmp_path / 'x.npz').stat().st_size > 48 * 2**20 and peak < 8 * 2**20


def test_parquet(tmp_path, monkeypatch):
    """With pyarrow, which is no requirement, what was written; without it, a sentence."""
    monkeypatch.setattr(feature_files, 'ROWS', 7)
    path = tmp_path / 'x.parquet'
    if find_spec('pyarrow') is None:
        with pytest.raises(ValueError, match="'.*x.parquet' needs pyarrow: install it, or write"):
            write_features(path, batches(1))
        assert not list(tmp_path.iterdir())
        return
    from pyarrow import parquet

    assert write_features(path, batches(10)) == (30, 4)
    features, paths = zip(*batches(10), strict=True)
    table = parquet.read_table(path)
    np.testing.assert_array_equal(table['features'].to_pylist(), np.concatenate(features))
    assert table['path'].to_pylist() == sum(paths, [])


def test_nothing_is_left_of_what_fails(tmp_path):
    def failing():
        yield from batches(2)
        raise ValueError('an image is missing')

    with pytest.raises(ValueError, match='an image is missing'):
        write_features(tmp_path / 'x.npz', failing())
    assert not list(tmp_path.iterdir())
