"""A loop of epochs that continues in the middle of one, and a validation that can be stopped."""

from collections.abc import Callable
from functools import partial

import torch
from mmengine.dist import get_world_size
from mmengine.runner import EpochBasedTrainLoop, ValLoop

from adpe_mm.errors import UserError
from adpe_mm.registry import LOOPS
from adpe_mm.stopping import Stopped, stop

# What the checkpoints of earlier versions call these numbers.
FORMER_NAMES = {
    'iterations an epoch': 'iterations per epoch',
    'pictures': 'images',
    'pictures a process and iteration': 'images per process and iteration',
}


@LOOPS.register_module()
class ExactEpochTrainLoop(EpochBasedTrainLoop):
    """mmengine's `EpochBasedTrainLoop`, which resumes at any iteration.

    mmengine begins the interrupted epoch anew, and so visits images twice and lets iterations
    and epochs drift apart. Here the sampler skips what was visited. It must have `skip`, as
    `EpochSampler` has.

    Args:
        *args: See `EpochBasedTrainLoop`.
        **kwargs: See `EpochBasedTrainLoop`.

    Raises:
        ValueError: If the images do not fill one batch; or, when a run is resumed, if an epoch
            has another number of iterations than before the stop, because the global batch or the
            data changed: the schedule of lr would no longer fit.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if len(self.dataloader) == 0:  # here, as the schedulers need a length before `run`
            raise UserError(
                f'the {len(self.dataloader.dataset)} images do not fill one batch: lower '
                'train_dataloader.batch_size or the number of processes, or add images'
            )

    def run(self) -> torch.nn.Module:
        """Train; continues where the checkpoint stopped."""
        self._resume_data()
        # A checkpoint of the last iteration of an epoch still counts that epoch as unfinished.
        self._epoch = self._iter // len(self.dataloader)
        try:
            return super().run()
        finally:
            # Persistent workers outlive a SIGTERM (see `outlive_signals`), by which Python would
            # end them at exit.
            iterator = getattr(self.dataloader, '_iterator', None)
            if iterator is not None:
                iterator._shutdown_workers()
                self.dataloader._iterator = None

    def _resume_data(self) -> None:
        """Visit images in the order of the interrupted run, and say what changed since."""
        hub, sampler = self.runner.message_hub, self.dataloader.sampler
        now = {
            'iterations per epoch': len(self.dataloader),
            'images': len(self.dataloader.dataset),
            'processes': get_world_size(),
            'images per process and iteration': self.dataloader.batch_size,
            'sampler seed': getattr(sampler, 'seed', None),
        }
        before = hub.get_info('data_order', now) if self._iter else now
        before = {FORMER_NAMES.get(name, name): value for name, value in before.items()}
        if before['iterations per epoch'] != now['iterations per epoch']:
            raise UserError(
                f'the run had {before["iterations per epoch"]} iterations per epoch and now has '
                f'{now["iterations per epoch"]}: resume with the same images and global batch '
                '(processes x train_dataloader.batch_size), or start anew from its weights with '
                'load_from'
            )
        if now['sampler seed'] is not None:
            # Built before the checkpoint was read, and so with a seed that was drawn anew if the
            # config sets none.
            sampler.seed = now['sampler seed'] = before['sampler seed']
        changes = [
            f'{now[key]} {key} (were {before[key]})' for key in now if now[key] != before[key]
        ]
        if changes:
            self.runner.logger.warning(
                f'resumed at iteration {self._iter}, but not exactly as if never stopped: '
                f'{", ".join(changes)}'
            )
        hub.update_info('data_order', now)

    def run_epoch(self) -> None:
        """Iterate the rest of one epoch."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        start = self._iter - self._epoch * len(self.dataloader)
        if start:
            if not hasattr(self.dataloader.sampler, 'skip'):
                raise UserError(
                    f'{type(self.dataloader.sampler).__name__} cannot continue in mid-epoch: use '
                    "train_dataloader.sampler.type='adpe_mm.EpochSampler', or resume from a "
                    'checkpoint of a whole epoch'
                )
            self.dataloader.sampler.skip(start * self.dataloader.batch_size)
        for idx, data_batch in enumerate(self.dataloader, start):
            self.run_iter(idx, data_batch)

        self.runner.call_hook('after_train_epoch')
        self._epoch += 1


@LOOPS.register_module()
class StoppableValLoop(ValLoop):
    """mmengine's `ValLoop`, which a stop ends at the next iteration, or while metrics are computed.

    All processes leave together, before or after they have exchanged their results, never within.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._evaluate, self.evaluator.evaluate = self.evaluator.evaluate, self._stoppable
        for metric in self.evaluator.metrics:
            metric.compute_metrics = partial(_interrupted, metric.compute_metrics)

    @torch.no_grad()
    def run_iter(self, idx: int, data_batch: dict) -> None:
        if stop.in_training and stop.heard:
            self._leave_if_all_do()
        super().run_iter(idx, data_batch)

    def _stoppable(self, size: int) -> dict:
        """Compute metrics, unless the run stops before that or meanwhile."""
        if not stop.in_training:
            return self._evaluate(size)
        self._leave_if_all_do()
        metrics = self._evaluate(size)
        self._leave_if_all_do()
        return metrics

    def _leave_if_all_do(self) -> None:
        if stop.place(together=True):
            self.runner.call_hook('leave')


def _interrupted(compute: Callable[[list], dict], results: list) -> dict:
    """Compute metrics in process 0, or none after a signal: the others wait for some."""
    if not stop.in_training:
        return compute(results)
    try:
        with stop.interrupting():
            return compute(results)
    except Stopped:
        return {}
