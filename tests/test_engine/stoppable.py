"""Validated runs of one or more processes, which a signal may reach at any moment."""

import multiprocessing
import os
import signal
import socket
import time
from pathlib import Path

import mmpretrain  # noqa: F401  the forked processes have it then
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.registry import METRICS

from adpe_mm.launch import init_processes, one_sentence_errors
from tests.test_engine.toy import final_state, make_runner

EPOCHS = 3  # of 5 iterations


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
        # As in every config: its `leave` is a setting, and no part of a stop.
        'default_hooks.checkpoint_fit': dict(type='adpe_mm.CheckpointFitHook'),
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
