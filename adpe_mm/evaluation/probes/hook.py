"""Probes of the features while pretraining runs."""

import json
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from adpe_mm.datasets import first_pipeline
from adpe_mm.errors import UserError
from adpe_mm.processes import on_main
from adpe_mm.registry import HOOKS
from adpe_mm.version import somebody_watches

from .encoders import copy_encoder
from .prober import PROBES, Prober
from .texts import RECORDS, scalars, summary


@contextmanager
def undisturbed() -> Iterator[None]:
    """Leave every generator and setting as it was."""
    python, numpy, benchmark = (
        random.getstate(), np.random.get_state(), torch.backends.cudnn.benchmark
    )  # fmt: skip
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    torch.backends.cudnn.benchmark = False
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        torch.backends.cudnn.benchmark = benchmark
        np.random.set_state(numpy)
        random.setstate(python)


@HOOKS.register_module()
class ProbeHook(Hook):
    """Judges the frozen features of the backbone as pretraining goes on: see `Prober`.

    One line in any config of pretraining:

        default_hooks = dict(probe=dict(type='adpe_mm.ProbeHook', data='my_labelled_images'))

    The results are in the log, in TensorBoard (``probe/...``, over iterations), and, with the
    epoch and what they cost, in ``probes.jsonl`` of the log's folder, which the report and
    ``plot_curves.py --probes`` draw.

    Images are read as those of the training are: as many bands, of the same range of values. It
    judges a copy of the backbone, in float32, and restores every generator: training is the
    same, bit for bit, with and without the hook.

    Args:
        data: Labelled images: class folders, ``train`` and ``val`` of them, or a list: see
            `find_labelled`.
        interval: Epochs between probes. None probes as often as `max_cost` allows: after an epoch
            when the training since the last probe took 1 / `max_cost` times as long as that probe.
            In any case the untrained network is probed, and the one after the last epoch.
        max_cost: Fraction of the training's time that the probes may take in between, where
            `interval` is None.
        num_workers: Processes that read the images, once; None for those of the training's loader.
        size: See `Prober`.
        max_train: See `Prober`.
        max_val: See `Prober`.
        probes: See `Prober`.

    Raises:
        FileNotFoundError: At the start of training, if there are no such images.
        ValueError: Likewise, if the images, the network or an option cannot be used.
    """

    # After the checkpoint of the epoch, which a probe that fails must not cost.
    priority = 'LOWEST'

    def __init__(
        self,
        data: str,
        interval: int | None = None,
        max_cost: float = 0.05,
        num_workers: int | None = None,
        size: int | tuple[int, int] | None = None,
        max_train: int = 5000,
        max_val: int = 2000,
        probes: Sequence[str] = PROBES,
    ) -> None:
        if interval is not None and interval < 1:
            raise UserError(f'ProbeHook.interval must be at least 1 epoch, or None, got {interval}')
        if not 0 < max_cost < 1:
            raise UserError(f'ProbeHook.max_cost must lie between 0 and 1, got {max_cost}')
        self.interval = interval
        self.max_cost = max_cost
        self.num_workers = num_workers
        self.options = dict(
            data=data,
            size=size,
            max_train=max_train,
            max_val=max_val,
            probes=probes,
        )
        self.seconds = 0.0  # that the last probe took

    def before_train(self, runner: Runner) -> None:
        steps = first_pipeline(runner.cfg.train_dataloader.dataset)
        as_trained = {
            name: next((step[name] for step in steps if name in step), None)
            for name in ('value_range', 'channels')
        }
        workers = self.num_workers
        if workers is None:
            workers = runner.train_dataloader.num_workers
        self.prober = Prober(
            **self.options, **as_trained, num_workers=workers, progress=somebody_watches()
        )
        self.ended = time.monotonic()
        if runner.iter == 0 or self._was_interrupted(runner):
            self._probe(runner, runner.epoch)

    def after_train_epoch(self, runner: Runner) -> None:
        epoch = runner.epoch + 1
        if epoch == runner.max_epochs or self._is_due(epoch):
            self._probe(runner, epoch)

    def _was_interrupted(self, runner: Runner) -> bool:
        """Whether the run that is resumed ended in a probe that was certainly due."""
        epoch = runner.epoch
        due = epoch == runner.max_epochs or (self.interval and epoch % self.interval == 0)
        if not due or runner.iter != epoch * len(runner.train_dataloader):
            return False
        return on_main(lambda: epoch not in _probed(Path(runner.work_dir)))

    def _is_due(self, epoch: int) -> bool:
        if self.interval is not None:
            return epoch % self.interval == 0
        due = [self.seconds <= self.max_cost * (time.monotonic() - self.ended)]
        broadcast_object_list(due)  # clocks differ
        return due[0]

    def _probe(self, runner: Runner, epoch: int) -> None:
        start = time.monotonic()
        with undisturbed():
            encoder = copy_encoder(runner.model, runner.cfg.model)
            results = self.prober(encoder)
        trained, self.ended = start - self.ended, time.monotonic()
        self.seconds = self.ended - start
        if not is_main_process():
            return
        cost = f'probe: {self.seconds:.1f} s'
        if trained > 1e-3:  # else it is the first, or one that is made up for
            cost += f', {100 * self.seconds / trained:.1f} % of training since the last'
        runner.logger.info(f'{summary(results, epoch)}; {cost}')
        runner.visualizer.add_scalars(scalars(results), step=runner.iter)
        record = dict(epoch=epoch, iter=runner.iter, seconds=self.seconds, trained=trained)
        with open(Path(runner.log_dir, RECORDS), 'a', encoding='utf-8') as file:
            file.write(json.dumps(record | results) + '\n')


def _probed(work_dir: Path) -> set[int]:
    """The epochs after which there was a probe."""
    files = work_dir.glob(f'*/{RECORDS}')
    lines = [line for file in files for line in file.read_text(encoding='utf-8').splitlines()]
    return {json.loads(line)['epoch'] for line in lines if line.endswith('}')}
