"""reconstruct.py and plot_curves.py, started as a user does."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from adpe_mm.evaluation.curves import plot_curves, read_scalars
from tests.helpers import tiny_config, tiny_model

TOOLS = Path(__file__).parents[2] / 'tools'


def run(tool, *arguments):
    return subprocess.run(
        [sys.executable, TOOLS / tool, *map(str, arguments)], capture_output=True, text=True
    )


@pytest.fixture
def trained(tmp_path):
    """A config, its checkpoint, and images of which one is broken."""
    Config(dict(model=tiny_config(), default_scope='mmpretrain')).dump(tmp_path / 'config.py')
    torch.save(dict(state_dict=tiny_model().state_dict()), tmp_path / 'epoch_1.pth')
    (tmp_path / 'images' / 'more').mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(9):
        pixels = rng.integers(0, 255, (50 + i, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / 'images' / 'more' / f'{i}.png')
    (tmp_path / 'images' / 'broken.jpg').write_bytes(b'broken')
    return tmp_path


def test_reconstruct(trained):
    done = run(
        'visualizations/reconstruct.py', trained / 'config.py', trained / 'epoch_1.pth',
        trained / 'images', '--out', trained / 'out',
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert 'skipped' in done.stdout and 'broken.jpg' in done.stdout
    names = sorted(path.name for path in (trained / 'out').iterdir())
    assert names == ['adversary.png', 'reconstruction_0.png', 'reconstruction_1.png']
    sheets = [Image.open(trained / 'out' / name) for name in names[1:]]
    assert sheets[0].height > sheets[1].height  # eight images and one


def test_reconstruct_names_a_users_mistake_in_one_sentence(trained):
    config, checkpoint, images = (
        trained / 'config.py', trained / 'epoch_1.pth', trained / 'images'
    )  # fmt: skip
    torch.save(dict(state_dict=tiny_model('ape', None).state_dict()), trained / 'other.pth')
    for arguments, sentence in [
        ((trained / 'no.py', checkpoint, images), 'there is no config'),
        ((config, trained / 'no.pth', images), 'there is no checkpoint'),
        ((config, checkpoint, trained / 'none'), 'there is no image or folder'),
        ((config, trained / 'other.pth', images), 'holds another network'),
        ((config, checkpoint, images / 'broken.jpg'), 'none of the images can be read'),
    ]:
        done = run('visualizations/reconstruct.py', *arguments)
        assert done.returncode == 1
        assert sentence in done.stderr and 'Traceback' not in done.stderr, done.stderr


def log(folder, entries):
    path = folder / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text('\n'.join(json.dumps(entry) for entry in entries))


def test_curves_merge_the_logs_of_a_resumed_run(tmp_path):
    log(
        tmp_path / 'run' / '20260101_000000',
        [dict(loss=3.0, lr=0.1, step=10), dict(loss=2.0, lr=0.2, step=20), dict(loss=9.0, step=30)],
    )
    log(tmp_path / 'run' / '20260102_000000', [dict(loss=1.5, step=30), dict(loss=1.0, step=40)])
    scalars = read_scalars(tmp_path / 'run')
    assert scalars['loss'].tolist() == [[10, 3.0], [20, 2.0], [30, 1.5], [40, 1.0]]
    assert scalars['lr'].tolist() == [[10, 0.1], [20, 0.2]]

    out = tmp_path / 'curves.png'
    done = run('analysis_tools/plot_curves.py', tmp_path / 'run', '--out', out)
    assert done.returncode == 0, done.stderr
    assert 'run: loss 3 -> 1, lr 0.1 -> 0.2' in done.stdout
    assert Image.open(out).size[0] > 300

    for arguments, sentence in [
        ((tmp_path,), 'there is no log'),
        ((tmp_path / 'run', '--keys', 'accuracy'), "no run logged ['accuracy']"),
    ]:
        done = run('analysis_tools/plot_curves.py', *arguments)
        assert done.returncode == 1
        assert sentence in done.stderr and 'Traceback' not in done.stderr


def test_a_single_value_can_be_seen():
    scalars = dict(loss=np.array([[10, 3.0], [20, 2.0]]), accuracy=np.array([[20, 71.0]]))
    loss, accuracy = plot_curves(dict(run=scalars), ['loss', 'accuracy']).axes
    assert loss.lines[0].get_marker() == 'None' and loss.lines[0].get_linestyle() == '-'
    assert accuracy.lines[0].get_marker() == 'o'
