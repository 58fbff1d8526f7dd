"""Counts the images and masks that cannot be read."""

import torch
from mmengine.dist import (
    all_gather_object,
    all_reduce,
    get_rank,
    get_world_size,
    is_distributed,
)
from mmengine.hooks import Hook
from mmengine.runner import Runner

from adpe_mm.errors import UserError
from adpe_mm.registry import HOOKS

TOGETHER = 50  # iterations between two counts of all processes


@HOOKS.register_module()
class UnreadableImagesHook(Hook):
    """Names each unreadable image once in the log, and stops when there are too many.

    In pretraining `Images` replaces them. In the training of a task, with this hook, the data set
    draws another sample in place of one whose image or mask cannot be read (without it, and in
    validation and test, the first one ends the run with its path).

    Process 0 names its own at once, and those of the other processes at the end of the epoch.
    They are counted together every 50 iterations, so that all end at the same one.
    From the first failure on, the fraction is logged as 'unreadable'. A resumed run counts on.

    Args:
        max_fraction: Largest fraction of failures among all images that were opened.
        min_images: Images that are opened before the fraction counts (or all there are, if
            these are fewer).

    Raises:
        ValueError: In training, past the fraction.
    """

    def __init__(self, max_fraction: float = 0.05, min_images: int = 1000) -> None:
        if not 0 <= max_fraction <= 1:
            raise UserError(f'max_fraction must lie in [0, 1], got {max_fraction}')
        self.max_fraction = max_fraction
        self.min_images = min_images
        self.named: set[str] = set()
        self.failed = self.opened = 0

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict = None) -> None:
        # Of pretraining's batches; of a task's, its samples have them (`GuardedPipeline`).
        unreadable = data_batch.get('unreadable') or [
            path
            for sample in data_batch.get('data_samples') or []
            for path in sample.get('unreadable', [])
        ]
        self.opened += len(data_batch['inputs']) + len(unreadable)
        self.failed += len(unreadable)
        if self.failed:
            runner.message_hub.update_scalar('train/unreadable', self.failed / self.opened)
        if not unreadable:
            return
        self._name(runner, unreadable)
        if not is_distributed():
            self._judge(runner)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None):
        # Together, as one process that ended alone would leave the others waiting.
        if is_distributed() and self.every_n_inner_iters(batch_idx, TOGETHER):
            self._judge(runner)

    def hand_over(self, runner: Runner) -> None:
        """Let the checkpoint know what all processes have counted."""
        counts = all_gather_object((self.failed, self.opened, sorted(self.named)))
        runner.message_hub.update_info('unreadable_images', counts)

    def take_back(self, runner: Runner) -> None:
        """Go on counting where the interrupted run was."""
        counts = runner.message_hub.get_info('unreadable_images', [])
        if len(counts) == get_world_size():
            self.failed, self.opened, named = counts[get_rank()]
            self.named = set(named)

    def _judge(self, runner: Runner) -> None:
        """Count the images of all processes, and raise in all of them if too many failed."""
        counts = torch.tensor([self.failed, self.opened], dtype=torch.int64)
        all_reduce(counts)
        failed, opened = counts.tolist()
        enough = min(self.min_images, len(runner.train_dataloader.dataset))
        if opened >= enough and failed > self.max_fraction * opened:
            one = next(path for paths in all_gather_object(sorted(self.named)) for path in paths)
            raise UserError(
                f'{failed} of {opened} images could not be read, more than the fraction of '
                f'{self.max_fraction:g} that UnreadableImagesHook.max_fraction allows; one is '
                f'{one}: repair or remove them, or raise the fraction'
            )

    def after_train_epoch(self, runner: Runner) -> None:
        if is_distributed():
            self._judge(runner)
        for paths in all_gather_object(sorted(self.named)):
            self._name(runner, paths)
        if self.named:
            runner.logger.warning(f'{len(self.named)} images could not be read so far')

    def _name(self, runner: Runner, paths: list[str]) -> None:
        for path in paths:
            if path not in self.named:
                self.named.add(path)
                runner.logger.warning(f'skipped an image that cannot be read: {path}')
