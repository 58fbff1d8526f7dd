"""plan_run.py's arithmetic, against figures worked out by hand."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOL = ROOT / 'tools' / 'analysis_tools' / 'plan_run.py'
MINI = 'configs/pretrain/maeplus_vit-mini_mini.py'


def run(*arguments):
    command = [sys.executable, TOOL, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def plan(tmp_path, config, *arguments):
    done = run(config, '--json', tmp_path / 'plan.json', *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads((tmp_path / 'plan.json').read_text()), done.stdout


def test_pretraining(tmp_path):
    found, text = plan(
        tmp_path, MINI, '--gpus', 2, '--images-per-second', 100, '--images', 1000,
        '--cores', 1, '--loader-images-per-second', 50, '--bandwidth', 1,
    )  # fmt: skip
    # Blocks of the encoder: 12 * 64² weights, of the decoder as many; 6 operations per weight and
    # token in forward and backward; 37 tokens, 4 crops. Attention, embedding and prediction add.
    weights = (4 + 1) * 12 * 64**2
    least = weights * 6 * 37 * 4 / 1e9
    assert least < found['gflop_per_image'] < 1.6 * least
    assert found['parameters'] == pytest.approx(weights, rel=0.2)
    assert found['images'] == 1000 and found['images_per_step'] == 32 and found['steps'] == 24 * 31
    assert found['seconds']['compute'] == pytest.approx(16 / 100)
    assert found['seconds']['loading'] == pytest.approx(16 / 50)
    exchanged = 2 * 4 * found['parameters'] / 2  # bytes: a ring of two, both ways
    assert found['seconds']['exchange'] == pytest.approx(exchanged / 1e9)
    assert found['limit'] == 'loading' and '2 cores per GPU' in text
    assert found['hours'] == pytest.approx(24 * 31 * 0.32 / 3600)
    assert found['gpu_hours'] == pytest.approx(2 * found['hours'])


def test_memory_and_share_of_peak(tmp_path):
    found, text = plan(
        tmp_path, MINI, '--gpus', 1, '--peak-tflops', 1, '--share', 0.25, '--memory', 0.01
    )
    assert found['limit'] == 'memory' and 'train_dataloader.batch_size' in text
    speed = 0.25e12 / (found['gflop_per_image'] * 1e9)
    assert found['seconds']['compute'] == pytest.approx(16 / speed)
    assert found['seconds']['exchange'] == 0
    # Weights, gradients, moments; and for each token of the encoder's blocks at least its inputs of
    # the four layers: 3 times the width and once four times, 2 bytes each.
    least = 16 * found['parameters'] + 64 * 37 * 4 * 7 * 64 * 2
    assert least < found['memory_gb'] * 1e9 < 10 * least


@pytest.mark.slow
@pytest.mark.parametrize(
    'config',
    [
        'cls/adpe-vit-mini_mini',
        'seg/upernet_adpe-vit-mini_mini',
        'det/mask-rcnn_adpe-vit-mini_mini',
    ],
)
def test_every_task(tmp_path, config):
    found, _ = plan(
        tmp_path, f'configs/{config}.py',
        '--gpus', 1, '--images-per-second', 10, '--images', 1000,
    )  # fmt: skip
    # At least the blocks': 12 * 64² weights each, 64 tokens.
    assert found['gflop_per_image'] > 4 * 12 * 64**2 * 6 * 64 / 1e9 and found['hours'] > 0


def test_mistakes():
    for arguments, sentence in [
        ((MINI, '--gpus', 1), 'give the speed of one GPU'),
        (('none.py', '--gpus', 1, '--images-per-second', 1), 'there is no config'),
    ]:
        done = run(*arguments)
        assert done.returncode == 1 and sentence in done.stderr and 'Traceback' not in done.stderr
