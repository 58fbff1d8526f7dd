"""Checkpoints that survive being interrupted, and are loaded whole or refused."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook, EMAHook, Hook
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner
from torch import Tensor, nn

from adpe_mm.checkpoints import (
    KERNEL,
    AtomicLocalBackend,
    DiskFull,
    add_description,
    check_fits,
    describe_origin,
    find_weights,
    fit_kernel,
    has_backbone,
    is_pretraining,
    leave_behind,
    misfitting_heads,
    read_checkpoint,
    unwrap,
)
from adpe_mm.engine.resuming import choose_checkpoint
from adpe_mm.errors import UserError
from adpe_mm.models import AdPEViT
from adpe_mm.registry import HOOKS
from adpe_mm.stopping import Stopped, end_workers, stop
from adpe_mm.version import __version__

from . import unsaved
from .finite import is_finite

VALIDATED = 'validated_iter'  # in the message hub: where the newest validation was


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """mmengine's `CheckpointHook`, but a run can be stopped at any moment and be resumed.

    Files appear whole or not at all, and an old checkpoint is removed only after a newer one is
    safe, the best one too. Each says what it is: see `describe`.

    After a signal (see `adpe_mm.stopping`) all processes stop after the same optimiser step, or in
    the same validation, with ``stopped_iter_N.pth`` unless there is a regular checkpoint of that
    iteration, and exit with 143. The next regular checkpoint of the resumed run replaces that
    file. A checkpoint knows whether its iteration has been validated. If that was due and is
    not known, because the run ended before or while it was done, the resumed run does it first.

    Between two steps of the optimiser nothing is saved: the gradients that accumulate are as large
    as the weights, and are different ones in each process. A checkpoint that is due then, and a
    stop, wait for the next step: ``epoch_N.pth`` has seen the first iterations of another epoch.

    Args:
        on_full_disk: What happens when a checkpoint does not fit on the disk. 'warn': the run goes
            on, and keeps the one before. 'stop': it ends.
        **kwargs: See mmengine's `CheckpointHook`.

    Raises:
        FileNotFoundError: If the checkpoint to resume from is gone.
        ValueError: If it is damaged and no other is left, or `on_full_disk` is neither of the two.
        DiskFull: If that is to end the run.
    """

    def __init__(self, on_full_disk: str = 'warn', **kwargs) -> None:
        super().__init__(**dict(dict(backend_args=dict(backend='adpe_mm_atomic')), **kwargs))
        if on_full_disk not in ('warn', 'stop'):
            raise UserError(
                "default_hooks.checkpoint.on_full_disk must be 'warn' or 'stop', "
                f"got '{on_full_disk}'"
            )
        self.on_full_disk = on_full_disk
        self.saved: int | None = None  # iterations that the newest checkpoint has seen
        self.due: int | None = None  # epoch or iteration whose checkpoint waits for a step
        self._former_best: dict[str, str | None] = {}  # while the next one is saved

    def before_run(self, runner: Runner) -> None:
        """Choose the checkpoint to resume from."""
        if runner._resume:
            choose_checkpoint(runner)

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        stop.begin()
        if runner._resume:
            self.saved, self.last_ckpt = runner.iter, runner._load_from
            self._resume_files(runner)
            runner.call_hook('take_back')
            self._validate_if_due(runner)

    def after_train(self, runner: Runner) -> None:
        super().after_train(runner)
        stop.end()

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None):
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        if self.due is not None and runner.optim_wrapper.should_update():
            position = dict(epoch=runner.epoch, iter=runner.iter + 1)
            step = self.due if self.by_epoch else position['iter']
            self._save_checkpoint_with_step(runner, step, position)
        by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
        if by_epoch and self.end_of_epoch(runner.train_dataloader, batch_idx):
            return  # what belongs to the end of the epoch comes first
        if self.is_last_train_iter(runner) or not runner.optim_wrapper.should_update():
            return  # accumulated gradients are in no checkpoint
        if stop.place():
            self.leave_training(runner, dict(epoch=runner.epoch, iter=runner.iter + 1))

    def before_train_epoch(self, runner: Runner) -> None:
        self._between_epochs(runner)

    def before_val(self, runner: Runner) -> None:
        if stop.in_training:
            self._between_epochs(runner)

    def _between_epochs(self, runner: Runner) -> None:
        if runner.iter and runner.optim_wrapper.should_update() and stop.place():
            self.leave_training(runner)

    def leave_training(self, runner: Runner, position: dict | None = None) -> NoReturn:
        """Save, wait until all processes have come here, and end: at a place where all stop.

        Args:
            position: Epoch and iteration to resume at, if not those of the runner.

        Raises:
            Stopped: Always.
        """
        end_workers()
        position = position or dict(epoch=runner.epoch, iter=runner.iter)
        if self.saved != position['iter']:
            name = f'stopped_iter_{position["iter"]}.pth'
            self.last_ckpt = self._save(runner, name, position, by_epoch=False)
        runner.logger.warning(
            f'stopped by {stop.heard.name} after iteration {position["iter"]}; the newest '
            f'checkpoint is {self.last_ckpt}; run the same command with --resume to continue'
        )
        stop.end()
        raise Stopped(together=True)

    def hand_over(self, runner: Runner) -> None:
        """Collect from all processes what process 0 saves: hooks may have such a method."""
        unsaved.hand_over(runner)

    def take_back(self, runner: Runner) -> None:
        """Take up, in a run that is resumed, what `hand_over` has collected."""
        unsaved.take_back(runner)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        """What mmengine calls to save; there it removes old checkpoints first."""
        if not runner.optim_wrapper.should_update():
            self.due = step
            runner.logger.info('gradients accumulate: the checkpoint waits for the next step')
            return
        self.due = None
        outdated, kept = [], []
        if self.max_keep_ckpts > 0:
            kept = [*self.keep_ckpt_ids]
            if step not in kept:
                outdated = kept[: len(kept) + 1 - self.max_keep_ckpts]
                self.keep_ckpt_ids.append(step)  # a full deque loses its first
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        name = self.filename_tmpl.format(step)
        files = [self.filename_tmpl.format(old) for old in outdated]
        path = self._save(runner, name, meta, self.by_epoch, files)
        if path is not None:
            self.last_ckpt = path
        elif self.max_keep_ckpts > 0:
            self.keep_ckpt_ids.clear()
            self.keep_ckpt_ids.extend(kept)
            runner.message_hub.update_info('keep_ckpt_ids', kept)

    def _save(
        self, runner: Runner, name: str, meta: dict, by_epoch: bool, outdated: list[str] = ()
    ) -> str | None:
        """Save, let ``last_checkpoint`` name the file, then remove what is outdated.

        All processes come here, and process 0 writes. What is outdated is written down in the
        checkpoint first: if this process is killed before all is removed, the resumed run does it.

        Returns:
            The file; None if the disk is full and the run is to go on.
        """
        hub = runner.message_hub
        path = self.file_backend.join_path(self.out_dir, name)
        if not is_finite(runner):
            runner.logger.error(f"not saved as '{path}': the weights are not finite")
            return None
        outdated = {*outdated, *self._replaced(), *hub.get_info('stopped_ckpt', [])} - {name, path}
        former = {key: hub.get_info(key) for key in ('last_ckpt', 'stopped_ckpt')}
        runner.call_hook('hand_over')  # what other processes know, for process 0 to save it
        hub.update_info('last_ckpt', path)
        hub.update_info('stopped_ckpt', [name] if name.startswith('stopped_') else [])
        hub.update_info('outdated_ckpt', sorted(outdated))
        try:
            runner.save_checkpoint(
                self.out_dir,
                name,
                self.file_client_args,
                save_optimizer=self.save_optimizer,
                save_param_scheduler=self.save_param_scheduler,
                meta=meta,
                by_epoch=by_epoch,
                backend_args=self.backend_args,
                **self.args,
            )
            if is_main_process():
                pointer = os.path.join(runner.work_dir, 'last_checkpoint')
                AtomicLocalBackend().put_text(path, pointer)
        except DiskFull as error:
            for key, value in former.items():
                hub.update_info(key, value)
            self._complain(runner, error)
            return None
        self.saved = meta['iter']
        self._remove(sorted(outdated))
        return path

    def _complain(self, runner: Runner, error: DiskFull) -> None:
        if self.on_full_disk == 'stop':
            raise error
        runner.logger.error(f'{error}. The run goes on; its newest checkpoint is {self.last_ckpt}')

    def _remove(self, names: list[str]) -> None:
        if is_main_process():
            for name in names:
                path = self.file_backend.join_path(self.out_dir, name)
                if self.file_backend.isfile(path):
                    self.file_backend.remove(path)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        """Save the best checkpoint; mmengine removes the former one first."""
        if not self.save_best:
            return
        self._former_best, former = self._best(), self._best()
        self._set_best(dict.fromkeys(former))  # of what it does not know it removes nothing
        try:
            super()._save_best_checkpoint(runner, metrics)
        except DiskFull as error:
            self._set_best(former)
            self._complain(runner, error)
        self._remove(self._replaced())  # it may have been done with the last checkpoint
        self._set_best({key: path or former[key] for key, path in self._best().items()})
        self._former_best = {}

    def _best(self) -> dict[str, str | None]:
        """Best checkpoint by the metric that it is the best of."""
        if len(self.key_indicators) == 1:
            return {'': self.best_ckpt_path}
        return dict(self.best_ckpt_path_dict)

    def _set_best(self, paths: dict[str, str | None]) -> None:
        if '' in paths:
            self.best_ckpt_path = paths['']
        else:
            self.best_ckpt_path_dict = paths

    def _replaced(self) -> list[str]:
        """Best checkpoints for which there is a better one now."""
        return [
            old
            for key, old in self._former_best.items()
            if old and self._best()[key] not in (None, old)
        ]

    def _resume_files(self, runner: Runner) -> None:
        """Finish what the former process could not, which may have been killed at any moment."""
        hub = runner.message_hub
        self._remove(hub.get_info('outdated_ckpt', []))
        # The one that it resumes from, and any that was never named as the last one.
        stopped = sorted(Path(self.out_dir).glob('stopped_iter_*.pth'))
        hub.update_info('stopped_ckpt', [path.name for path in stopped])

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Let what is saved from now on, with the best one at once, know of the validation."""
        if stop.in_training:
            runner.message_hub.update_info(VALIDATED, runner.iter)
        super().after_val_epoch(runner, metrics)

    def _validate_if_due(self, runner: Runner) -> None:
        """Make up for the validation at this iteration, if the run was ended before or in it."""
        loop, by_epoch = runner.train_loop, isinstance(runner.train_loop, EpochBasedTrainLoop)
        if runner.val_loop is None or not runner.iter:
            return
        loop._decide_current_val_interval()
        now, end = (loop.epoch, loop.max_epochs) if by_epoch else (loop.iter, loop.max_iters)
        whole = not by_epoch or loop.iter == loop.epoch * len(loop.dataloader)
        due = whole and now >= loop.val_begin and (now % loop.val_interval == 0 or now == end)
        if due and runner.message_hub.get_info(VALIDATED) != runner.iter:
            runner.logger.info(
                f'validation of iteration {runner.iter} first: the checkpoint does not know of one'
            )
            runner.val_loop.run()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if has_backbone(checkpoint['state_dict']):
            add_description(checkpoint, __version__)


@HOOKS.register_module()
class CheckpointFitHook(Hook):
    """Raises where mmengine would only log that a checkpoint does not fit, and train on.

    A checkpoint of pretraining that is loaded for another task (``load_from``) gives its backbone,
    and leaves decoder and adversary behind; so does one of RGB for the pretraining of other bands,
    while a task's network of other bands begins from the whole: see `kernel_of_bands`. What a task
    began from is kept in its checkpoints, in the message hub under 'pretraining': ``method``,
    ``variant``, ``checkpoint`` and ``sha256``. An average of the weights (`EMAHook`) takes the
    look-up of relative positions that was loaded.

    Args:
        leave: Modules or parameters, such as 'decode_head.conv_seg', that a training with
            ``load_from`` begins anew, while all else is the checkpoint's: the layers whose size is
            the number of classes, for a network that is to learn others.

    Raises:
        ValueError: When a checkpoint is loaded or resumed that is of another architecture.
    """

    def __init__(self, leave: str | Sequence[str] = ()) -> None:
        self.leave = [leave] if isinstance(leave, str) else list(leave)
        self.origin = dict(method='scratch', variant=None, checkpoint=None, sha256=None)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        model = unwrap(runner.model)
        weights = find_weights(checkpoint)
        other_bands = self._other_bands(runner, weights)
        transfer = is_pretraining(weights) and (
            other_bands or not is_pretraining(model.state_dict())
        )
        if not transfer or not isinstance(model.backbone, AdPEViT):
            if other_bands:
                name = f'backbone.{KERNEL}'
                weights[name] = fit_kernel(weights[name], model.state_dict()[name].shape)
                checkpoint['state_dict'] = weights
            self._check_task(runner, model, weights, checkpoint)
            return
        model.backbone.load_pretrained(weights)
        self.origin = describe_origin(getattr(runner, '_load_from', None), checkpoint)
        runner.logger.info(f'began from {self.origin}; decoder and adversary are left behind')
        # What the runner loads after this: the whole network, backbone included.
        checkpoint['state_dict'] = model.state_dict()

    def _check_task(
        self, runner: Runner, model: nn.Module, weights: dict[str, Tensor], checkpoint: dict
    ) -> None:
        """Make sure that weights fit, but for what a new training leaves behind."""
        begins = isinstance(runner._train_loop, BaseLoop) and not runner._resume
        if begins and self.leave:
            weights, left = leave_behind(model, weights, self.leave)
            runner.logger.warning(f'left behind, and begun anew: {", ".join(left)}')
            checkpoint.pop('model', None)  # `find_weights` looks there first
            checkpoint['state_dict'] = weights
        try:
            check_fits(model, weights)
        except UserError as error:
            heads = misfitting_heads(model, weights) if begins else []
            if not heads:
                raise
            raise UserError(
                f'{error}; or begin with new layers for other classes, and all else from the '
                f'checkpoint: --cfg-options default_hooks.checkpoint_fit.leave={",".join(heads)}'
            ) from None

    @staticmethod
    def _other_bands(runner: Runner, weights: dict[str, Tensor]) -> bool:
        """Whether a new run begins from weights of other bands than its backbone takes."""
        backbone = getattr(unwrap(runner.model), 'backbone', None)
        kernel = weights.get(f'backbone.{KERNEL}')
        if getattr(runner, '_resume', False) or kernel is None:
            return False
        return isinstance(backbone, AdPEViT) and kernel.shape[1] != backbone.in_channels

    def before_train(self, runner: Runner) -> None:
        hub, model = runner.message_hub, unwrap(runner.model)
        for hook in runner.hooks:
            if isinstance(hook, EMAHook):
                # It was made before the weights were loaded, and averages parameters only.
                extra = {n: v for n, v in model.state_dict().items() if n.endswith('._extra_state')}
                hook.ema_model.module.load_state_dict(extra, strict=False)
        resumed = 'pretraining' in hub.runtime_info
        if resumed or is_pretraining(model.state_dict()):
            return
        init_cfg = getattr(getattr(model, 'backbone', None), 'init_cfg', None)
        if isinstance(init_cfg, dict) and init_cfg.get('type') == 'Pretrained':
            path = init_cfg['checkpoint']
            self.origin = describe_origin(path, read_checkpoint(path, 'meta'))
        hub.update_info('pretraining', self.origin)
