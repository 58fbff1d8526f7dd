"""A user's mistake ends in one sentence that says what to change."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_engine.toy import ADPE, Stopped, draw, make_runner, stop

ROOT = Path(__file__).parents[2]


def test_checkpoint_of_another_network_is_refused(tmp_path):
    images = draw(tmp_path / 'images')
    fit = dict(custom_hooks=[dict(type='adpe_mm.CheckpointFitHook')])
    with pytest.raises(Stopped):
        make_runner(tmp_path / 'run', images, {2: stop}, options=fit).train()
    make_runner(tmp_path / 'run', images, options=dict(fit, resume=True)).train()
    for how in (dict(resume=True), dict(load_from=str(tmp_path / 'run' / 'iter_2.pth'))):
        other = make_runner(tmp_path / 'run', images, model=ADPE, options=dict(fit, **how))
        with pytest.raises(ValueError, match='another network than the config describes'):
            other.train()


@pytest.mark.slow
@pytest.mark.parametrize(
    'options, sentence',
    [
        (['data_root=nowhere'], "train: there is no folder 'nowhere"),
        (['batch_size=500'], 'train: the 4 images do not fill one batch'),
        (['data_root={broken}'], 'train: 4 of 4 images of train_dataloader.dataset cannot be read'),
    ],
)
def test_command_says_it_in_one_line(tmp_path, options, sentence):
    draw(tmp_path / 'images', 4)
    draw(tmp_path / 'broken', 4, broken=range(4))
    settings = dict(
        [('data_prefix.img_path', ''), ('batch_size', 2), ('data_root', tmp_path / 'images')]
        + [option.format(broken=tmp_path / 'broken').split('=') for option in options]
    )
    job = subprocess.run(
        [sys.executable, 'tools/train.py', 'configs/pretrain/adpe_vit-mini_mini.py']
        + ['--work-dir', str(tmp_path / 'run'), '--cfg-options']
        + [
            f'train_dataloader.{"" if key == "batch_size" else "dataset."}{key}={value}'
            for key, value in settings.items()
        ],
        cwd=ROOT,
        env=dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1'),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert job.returncode == 1
    said = job.stderr.strip().splitlines()
    assert any(line.startswith(sentence) for line in said[-2:]), job.stderr
    assert 'Traceback' not in job.stderr
