"""A signal to any process, in any phase: all stop together, one checkpoint, exact resumption."""

import multiprocessing
import os
import signal
import socket
import time
from pathlib import Path

import mmpretrain  # noqa: F401  the forked processes have it then
import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.registry import METRICS

from adpe_mm.launch import init_processes, one_sentence_errors
from tests.test_engine.toy import assert_same, draw, final_state, make_runner

EPOCHS = 3  # of 5 iterations


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    return draw(tmp_path_factory.mktemp('data') / 'images')


@METRICS.register_module()
class Slow(BaseMetric):
    """The mean of what a network predicts, for which it takes its time."""

    def __init__(self, seconds=0.0):
        super().__init__()
        self.seconds = seconds

    def process(self, data_batch, data_samples):
        time.sleep(0.02)
        self.results.append(sum(data_samples) / len(data_samples))

    def compute_metrics(self, results):
        (Path(os.environ['ADPE_TEST_DIR']) / 'computing').touch()
        time.sleep(self.seconds)
        assert len(results) == 20
        return dict(mean=sum(results) / len(results))


class Signals(Hook):
    """Sends a signal to some processes at a moment of the run: (phase, iteration)."""

    priority = 'VERY_HIGH'

    def __init__(self, moment, ids, whom):
        self.moment, self.ids, self.whom = moment, ids, whom

    def _send(self, *moment):
        if moment == self.moment:
            for rank in self.whom:
                os.kill(self.ids[rank], signal.SIGUSR1)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.rank == self.whom[0]:
            self._send('training', runner.iter + 1)

    def before_save_checkpoint(self, runner, checkpoint):
        self._send('saving', checkpoint['meta']['iter'])

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.rank == self.whom[0] and batch_idx == 1:
            self._send('validation', runner.iter)


def process(rank, number, port, ids, images, work_dir, moment, whom, more):
    """One of the processes of a run."""
    os.environ.update(
        RANK=str(rank), WORLD_SIZE=str(number), LOCAL_RANK=str(rank), MASTER_ADDR='127.0.0.1',
        MASTER_PORT=str(port), ADPE_TEST_DIR=str(work_dir.parent),
    )  # fmt: skip
    torch.set_num_threads(1)
    options = {
        'train_dataloader.batch_size': 4 // number,
        'launcher': 'pytorch' if number > 1 else 'none',
        'train_cfg.max_epochs': EPOCHS,
        'default_hooks.checkpoint': dict(
            by_epoch=True, interval=1, max_keep_ckpts=2, save_best='mean', rule='less'
        ),
        'val_cfg': dict(),
        'val_evaluator': dict(type='Slow'),
        'resume': True,
        'log_level': 'INFO',
        **more,
    }
    with one_sentence_errors('train'):
        init_processes(options['launcher'])
        runner = make_runner(work_dir, images, options=options, validates=True)
        runner.register_hook(Signals(moment, ids, whom))
        ids[rank] = os.getpid()
        runner.train()
        if rank == 0:
            torch.save(final_state(runner), work_dir / 'state.pt')


def run(number, images, work_dir, moment=None, whom=(0,), **more):
    """Run it in processes that are forked, so that they need to import nothing."""
    context = multiprocessing.get_context('fork')
    with socket.create_server(('127.0.0.1', 0)) as free:
        port = free.getsockname()[1]
    ids = context.Array('i', number)
    work_dir.mkdir(parents=True, exist_ok=True)
    arguments = (number, port, ids, images, work_dir, moment, whom, more)
    jobs = [context.Process(target=process, args=(rank, *arguments)) for rank in range(number)]
    for job in jobs:
        job.start()
    return jobs, ids


def ended(jobs):
    for job in jobs:
        job.join(60)
    return {job.exitcode for job in jobs}


def checkpoints(work_dir):
    return sorted(path.name for path in work_dir.glob('*.pth') if 'best' not in path.name)


def newest(work_dir):
    return Path((work_dir / 'last_checkpoint').read_text()).name


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
    assert not (work_dir / 'last_validation').exists()

    assert ended(run(number, images, work_dir, ('validation', 10), whom)[0]) == {143}
    assert checkpoints(work_dir) == ['epoch_1.pth', 'epoch_2.pth']
    assert newest(work_dir) == 'epoch_2.pth'
    # The one that was due after epoch 1 was made up for; that after epoch 2 is not complete.
    assert (work_dir / 'last_validation').read_text() == '5'

    assert ended(run(number, images, work_dir)[0]) == {0}
    assert checkpoints(work_dir) == ['epoch_2.pth', 'epoch_3.pth']
    assert (work_dir / 'last_validation').read_text() == '15'
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
    assert not (tmp_path / 'run' / 'last_validation').exists()
