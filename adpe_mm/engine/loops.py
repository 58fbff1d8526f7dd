"""Loops of epochs or iterations that continue anywhere, and a validation that can be stopped."""

import math
import zlib
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from mmengine.dist import get_world_size
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner, ValLoop
from torch.utils.data import DataLoader, Dataset, IterableDataset

from adpe_mm.datasets import SeededBatches
from adpe_mm.errors import UserError
from adpe_mm.registry import LOOPS
from adpe_mm.stopping import Stopped, stop

# What the checkpoints of earlier versions call these numbers.
FORMER_NAMES = {
    'iterations an epoch': 'iterations per epoch',
    'pictures': 'images',
    'pictures a process and iteration': 'images per process and iteration',
}
NAMES = 'names of images'
LOOKED_AT = 20_000  # images whose names are compared, of more than these evenly spaced ones


class _Exact:
    """What both loops share: samples and their order are functions of seed and iteration.

    Raises:
        ValueError: If the images do not fill one batch.
    """

    by_epoch: bool

    def __init__(self, runner: Runner, dataloader: DataLoader | dict, *args, **kwargs) -> None:
        loader = dataloader
        if isinstance(loader, dict):
            loader = runner.build_dataloader(loader, seed=runner.seed)
        if loader.batch_sampler is None:
            raise UserError('train_dataloader.batch_size must be a number, got None')
        if not (len(loader) if self.by_epoch else size(loader.dataset)):
            # Here, as the schedulers need a length before `run`.
            raise UserError(
                f'the {size(loader.dataset)} images do not fill one batch: lower '
                'train_dataloader.batch_size or the number of processes, or add images'
            )
        self.batches = SeededBatches(loader.batch_sampler, endless=not self.by_epoch)
        # torch lets nobody exchange it. Another loader would have no `batch_size` and `sampler`.
        object.__setattr__(loader, 'batch_sampler', self.batches)
        super().__init__(runner, loader, *args, **kwargs)

    def run(self) -> torch.nn.Module:
        """Train; continues where the checkpoint stopped."""
        self._resume_data()
        try:
            return self._run()
        finally:
            # Persistent workers outlive a SIGTERM (see `outlive_signals`), by which Python would
            # end them at exit.
            iterator = getattr(self.dataloader, '_iterator', None)
            if iterator is not None:
                iterator._shutdown_workers()
                self.dataloader._iterator = None

    def _resume_data(self) -> None:
        """Visit images in the order of the interrupted run, and say what changed since."""
        hub, loader, sampler = self.runner.message_hub, self.dataloader, self.batches.sampler
        now = {
            'images': size(loader.dataset),
            NAMES: digest(loader.dataset),
            'processes': get_world_size(),
            'images per process and iteration': loader.batch_size or self.batches.batch_size,
            'sampler seed': getattr(sampler, 'seed', None),
        }
        if self.by_epoch:
            now['iterations per epoch'] = len(loader)
        before = hub.get_info('data_order', now) if self._iter else now
        before = {FORMER_NAMES.get(name, name): value for name, value in before.items()}
        self._refuse_if_too_different(before, now)
        if now['sampler seed'] is not None and 'sampler seed' in before:
            # Built before the checkpoint was read, and so with a seed that was drawn anew if the
            # config sets none.
            sampler.seed = now['sampler seed'] = before['sampler seed']
        self.batches.seed = self.runner.seed
        changed = [key for key in now if now[key] != before.get(key, now[key])]
        changes = []
        if NAMES in changed:
            changed.remove(NAMES)
            changes += [] if 'images' in changed else ['images of other names']
        changes += [f'{now[key]} {key} (were {before[key]})' for key in changed]
        if self._iter:
            changes += [f'{name} has forgotten its images' for name in remembering(loader.dataset)]
            if isinstance(loader.dataset, IterableDataset):
                changes.append('the stream of samples begins anew')
        if changes:
            self.runner.logger.warning(
                f'resumed at iteration {self._iter}, but not exactly as if never stopped: '
                f'{", ".join(changes)}'
            )
        hub.update_info('data_order', now)

    def _refuse_if_too_different(self, before: dict, now: dict) -> None:
        pass


@LOOPS.register_module()
class ExactEpochTrainLoop(_Exact, EpochBasedTrainLoop):
    """mmengine's `EpochBasedTrainLoop`, which resumes at any iteration, with any sampler.

    mmengine begins the interrupted epoch anew, and so visits images twice and lets iterations
    and epochs drift apart. Here what was visited is left out, see `SeededBatches`. `AdPERunner`
    puts this loop in the place of mmengine's.

    Args:
        *args: See `EpochBasedTrainLoop`.
        **kwargs: See `EpochBasedTrainLoop`.

    Raises:
        ValueError: If the images do not fill one batch; or, when a run is resumed, if an epoch
            has another number of iterations than before the stop, because the global batch or the
            data changed: the schedule of lr would no longer fit.
    """

    by_epoch = True

    def _run(self) -> torch.nn.Module:
        length = len(self.dataloader)
        epoch, beyond = divmod(self._iter, length)
        # A checkpoint that was saved by iteration, in the last one of an epoch, counts that epoch
        # as unfinished: what belongs to its end, such as the schedules by epoch, is still to come.
        self._epoch = epoch - 1 if epoch > self._epoch and not beyond else epoch
        return EpochBasedTrainLoop.run(self)

    def _refuse_if_too_different(self, before: dict, now: dict) -> None:
        if before['iterations per epoch'] != now['iterations per epoch']:
            raise UserError(
                f'the run had {before["iterations per epoch"]} iterations per epoch and now has '
                f'{now["iterations per epoch"]}: resume with the same images and global batch '
                '(processes x train_dataloader.batch_size), or start anew from its weights with '
                'load_from'
            )

    def run_epoch(self) -> None:
        """Iterate the rest of one epoch."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        start = self._iter - self._epoch * len(self.dataloader)
        if start < len(self.dataloader):
            self.batches.begin(self._epoch, start)
            for idx, data_batch in enumerate(self.dataloader, start):
                self.run_iter(idx, data_batch)

        self.runner.call_hook('after_train_epoch')
        self._epoch += 1


@LOOPS.register_module()
class ExactIterTrainLoop(_Exact, IterBasedTrainLoop):
    """mmengine's `IterBasedTrainLoop`, which resumes with the samples that it would have had.

    mmengine's draws them anew. Where a sampler is not endless, its epochs follow each other
    without a pause. `AdPERunner` puts this loop in the place of mmengine's.

    Args:
        *args: See `IterBasedTrainLoop`.
        **kwargs: See `IterBasedTrainLoop`; `fast_forward_on_resume` has no effect.

    Raises:
        ValueError: If there are no images.
    """

    by_epoch = False

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.dataloader_iterator = None  # mmengine before 0.10.12 starts loading here

    def _run(self) -> torch.nn.Module:
        call_hook = self.runner.call_hook
        call_hook('before_train')
        call_hook('before_train_epoch')
        self.batches.begin(epoch=0, batch=self._iter)
        batches = iter(self.dataloader)
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            self.run_iter(next(batches))
            self._decide_current_val_interval()
            last = self._iter == self._max_iters
            due = self._iter >= self.val_begin and (last or self._iter % self.val_interval == 0)
            if self.runner.val_loop is not None and due:
                self.runner.val_loop.run()
        call_hook('after_train_epoch')
        call_hook('after_train')
        return self.runner.model


EXACT = {EpochBasedTrainLoop: ExactEpochTrainLoop, IterBasedTrainLoop: ExactIterTrainLoop}


def exact_loop(loop: dict) -> dict:
    """The config of a training loop, with an exact one in the place of mmengine's."""
    loop = dict(loop)
    if 'by_epoch' in loop and 'type' not in loop:
        type_ = EpochBasedTrainLoop if loop.pop('by_epoch') else IterBasedTrainLoop
    else:
        type_ = loop.get('type')
    cls = LOOPS.get(type_) if isinstance(type_, str) else type_
    return dict(loop, type=EXACT.get(cls, type_))


def size(dataset: Dataset) -> int | float:
    """Number of samples; infinite for a stream of them that does not say it."""
    return len(dataset) if hasattr(dataset, '__len__') else math.inf


def remembering(dataset: Dataset) -> list[str]:
    """Transforms that mix images with those that the same worker has made before, as mmdet's."""
    parts = [*getattr(dataset, 'datasets', []), getattr(dataset, 'dataset', None)]
    found = {name for part in parts if part is not None for name in remembering(part)}
    pipeline = getattr(dataset, 'pipeline', [])
    for step in getattr(pipeline, 'transforms', pipeline):
        if hasattr(step, 'results_cache'):
            found.add(type(step).__name__)
    return sorted(found)


def digest(dataset: Dataset) -> int | None:
    """A number that differs if samples have other names, or another order; None without names.

    Names are the last two parts of paths: the folder of all may be another one on each machine.
    """
    if not hasattr(dataset, 'get_data_info'):
        return None
    number, count = 0, len(dataset)
    for sample in range(min(count, LOOKED_AT)):
        info = dataset.get_data_info(sample * count // min(count, LOOKED_AT))
        path = info.get('img_path') if isinstance(info, dict) else None
        number = zlib.crc32('/'.join(str(path).split('/')[-2:]).encode() + b'\n', number)
    return number


@LOOPS.register_module()
class StoppableValLoop(ValLoop):
    """mmengine's `ValLoop`, which a stop ends at the next iteration, or while metrics are computed.

    All processes leave together, before or after they have exchanged their results, never within.
    While gradients accumulate the validation is not stopped, as nothing could be saved.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._evaluate, self.evaluator.evaluate = self.evaluator.evaluate, self._stoppable
        for metric in self.evaluator.metrics:
            metric.compute_metrics = partial(self._interrupted, metric.compute_metrics)

    @property
    def _may_stop(self) -> bool:
        return stop.in_training and self.runner.optim_wrapper.should_update()

    @torch.no_grad()
    def run_iter(self, idx: int, data_batch: dict) -> None:
        if self._may_stop and stop.heard:
            self._leave_if_all_do()
        super().run_iter(idx, data_batch)

    def _stoppable(self, size: int) -> dict:
        """Compute metrics, unless the run stops before that or meanwhile.

        They are plain numbers: those of numpy get into checkpoints, as the best score, and could
        not be read from there as weights only.
        """
        may_stop = self._may_stop
        if may_stop:
            self._leave_if_all_do()
        metrics = self._evaluate(size)
        if may_stop:
            self._leave_if_all_do()
        return {k: v.item() if isinstance(v, np.generic) else v for k, v in metrics.items()}

    def _leave_if_all_do(self) -> None:
        if stop.place(together=True):
            self.runner.call_hook('leave_training')

    def _interrupted(self, compute: Callable[[list], dict], results: list) -> dict:
        """Compute metrics in process 0, or none after a signal: the others wait for some."""
        if not self._may_stop:
            return compute(results)
        try:
            with stop.interrupting():
                return compute(results)
        except Stopped:
            return {}
