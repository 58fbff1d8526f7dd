"""A signal to any process, in any phase: all stop together, one checkpoint, exact resumption."""

import os
import signal
import time
from pathlib import Path

import pytest
import torch

from tests.test_engine.stoppable import EPOCHS, ended, run
from tests.test_engine.toy import assert_same, draw


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    return draw(tmp_path_factory.mktemp('data') / 'images')


def checkpoints(work_dir):
    return sorted(path.name for path in work_dir.glob('*.pth') if 'best' not in path.name)


def newest(work_dir):
    return Path((work_dir / 'last_checkpoint').read_text()).name


def validated(work_dir):
    """Iteration of the newest validation that the newest checkpoint knows of."""
    checkpoint = torch.load(work_dir / newest(work_dir), weights_only=False)
    return checkpoint['message_hub']['runtime_info'].get('validated_iter')


@pytest.fixture(scope='module')
def unbroken(images, tmp_path_factory):
    states = {}

    def state_of(number):
        if number not in states:
            work_dir = tmp_path_factory.mktemp('whole') / 'run'
            assert ended(run(number, images, work_dir)[0]) == {0}
            states[number] = torch.load(work_dir / 'state.pt')
        return states[number]

    return state_of


@pytest.mark.parametrize(
    'number, whom',
    [
        (1, (0,)),
        (2, (1,)),
        pytest.param(2, (0,), marks=pytest.mark.slow),
        pytest.param(2, (0, 1), marks=pytest.mark.slow),
        pytest.param(4, (2,), marks=pytest.mark.slow),
        pytest.param(4, (0, 1, 2, 3), marks=pytest.mark.slow),
    ],
)
def test_stopped_in_every_phase(images, tmp_path, unbroken, number, whom):
    work_dir = tmp_path / 'run'

    assert ended(run(number, images, work_dir, ('training', 3), whom)[0]) == {143}
    assert checkpoints(work_dir) == [newest(work_dir)]
    assert newest(work_dir) in ('stopped_iter_3.pth', 'stopped_iter_4.pth')

    assert ended(run(number, images, work_dir, ('saving', 5), whom)[0]) == {143}
    assert checkpoints(work_dir) == [newest(work_dir)] == ['epoch_1.pth']
    assert validated(work_dir) is None

    assert ended(run(number, images, work_dir, ('validation', 10), whom)[0]) == {143}
    assert checkpoints(work_dir) == ['epoch_1.pth', 'epoch_2.pth']
    assert newest(work_dir) == 'epoch_2.pth'
    # The one that was due after epoch 1 was made up for; that after epoch 2 is not complete.
    assert validated(work_dir) == 5

    assert ended(run(number, images, work_dir)[0]) == {0}
    assert checkpoints(work_dir) == ['epoch_2.pth', 'epoch_3.pth']
    logs = ''.join(path.read_text() for path in sorted(work_dir.glob('*/*.log')))
    assert logs.count('mean: ') == EPOCHS  # each epoch was validated once
    assert len(list(work_dir.glob('best_mean_*.pth'))) == 1
    assert not list(work_dir.glob('.*'))
    state = torch.load(work_dir / 'state.pt')
    if number <= 2:
        assert_same(state, unbroken(number))
    else:  # DDP arranges its buckets anew after one iteration, and so the order of three summands
        torch.testing.assert_close(state['weights'], unbroken(number)['weights'])


@pytest.mark.parametrize('number', [1, 2])
def test_metrics_that_take_long_are_given_up_at_once(images, tmp_path, number):
    metric = dict(type='Slow', seconds=30)
    jobs, ids = run(number, images, tmp_path / 'run', val_evaluator=metric)
    for _ in range(600):
        if (tmp_path / 'computing').exists():
            break
        time.sleep(0.1)
    time.sleep(0.3)
    sent = time.monotonic()
    os.kill(ids[number - 1], signal.SIGINT)
    assert ended(jobs) == {143}
    assert time.monotonic() - sent < 5  # two, on a machine with nothing else to do
    assert newest(tmp_path / 'run') == 'epoch_1.pth'
    assert validated(tmp_path / 'run') is None
