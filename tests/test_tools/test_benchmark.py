"""benchmark.py, started as a user does: that it runs and what it writes, not how fast it is."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from adpe_mm.evaluation.input_speed import make_images
from adpe_mm.evaluation.timing import alternate, ratio

TOOLS = Path(__file__).parents[2] / 'tools' / 'analysis_tools'


def run(*arguments):
    command = [sys.executable, TOOLS / 'benchmark.py', *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def results(tmp_path, *arguments):
    done = run(*arguments, '--json', tmp_path / 'out.json', '--repeats', 2, '--warmup', 1)
    assert done.returncode == 0, done.stderr
    out = json.loads((tmp_path / 'out.json').read_text())
    assert out['device'] and out['versions']['torch'] and out['setting'] in done.stdout
    return {row.get('candidate'): row for row in out['rows']}, out


def test_input(tmp_path):
    (tmp_path / 'images').mkdir()
    make_images(tmp_path / 'images', 3, (120, 90), 4.0)
    rows, out = results(tmp_path, 'input', tmp_path / 'images', '--crop', 16, '--batch-size', 2)
    by_workers = {'plain, 1 worker', 'ours, 1 worker', 'ours, 2 workers'}
    assert set(rows) == {'plain', 'ours', *by_workers}
    assert min(row['images_per_second'] for row in rows.values()) > 0
    assert rows['plain']['times_plain'] == rows['ours, 1 worker']['times_1_worker'] == 1
    assert rows['plain, 1 worker']['times_plain'] == 1 and out['images'] == 3
    assert rows['plain']['times_1_worker'] is None


@pytest.mark.slow
def test_step(tmp_path):
    rows, out = results(
        tmp_path, 'step', '--arch', 'ti', '--batch', 1, '--crops', 1, '--variants', 'rpe-coord'
    )
    assert set(rows) == {
        'rpe-coord ours bfloat16', 'rpe-coord ours float32', 'rpe-coord plain float32',
    }  # fmt: skip
    assert rows['rpe-coord plain float32']['ratio_to_plain'] == 1
    # Forward and backward of ViT-Ti with the decoder of the recipe, by hand: 6 operations a
    # weight and token, of 5.4 M + 25.2 M weights of the blocks and 50 tokens, and a little more.
    assert out['gflop_per_image'] == pytest.approx(6 * (5.31 + 25.17) * 50 / 1e3, rel=0.1)
    assert out['peak_tflops']['bfloat16'] > 0


def test_attention(tmp_path):
    rows, _ = results(tmp_path, 'attention', '--sides', 3, '--tokens', 9, '--heads', 1)
    assert (
        len(rows) == (6 if torch.cuda.is_available() else 9)
        and rows['ours none']['over_no_position'] == 1
    )
    assert rows['plain bucket']['ratio_to_plain'] == 1


@pytest.mark.parametrize('size, kilobytes', [((500, 375), 57.0), ((1000, 750), 200.0)])
def test_images_are_those_of_the_published_numbers(tmp_path, size, kilobytes):
    make_images(tmp_path, 6, size, kilobytes)
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) == 6 and np.mean(sizes) == pytest.approx(1000 * kilobytes, rel=0.05)
    assert all(Image.open(path).size == size for path in tmp_path.iterdir())


def test_candidates_take_turns_and_the_warm_up_does_not_count():
    calls = []
    candidates = dict(a=lambda: calls.append('a'), b=lambda: calls.append('b'))
    seconds = alternate(candidates, repeats=3, warmup=1)
    assert calls == ['a', 'b'] * 4 and len(seconds['a']) == 3
    assert ratio(dict(a=[1.0, 1.0, 1.0], b=[2.0, 9.0, 4.0]), 'a', 'b') == 4.0


@pytest.mark.parametrize(
    'arguments, sentence',
    [(['nowhere'], 'there is no folder'), (['--repeats', '0'], 'must be at least 1')],
)
def test_mistakes_are_one_sentence(arguments, sentence):
    done = run('input', *arguments)
    assert done.returncode == 1
    assert sentence in done.stderr and 'Traceback' not in done.stderr
