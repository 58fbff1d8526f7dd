"""Checkpoints that survive being interrupted, and are loaded whole or refused."""

import os
import signal
import sys

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook, EMAHook, Hook
from mmengine.runner import FlexibleRunner, Runner

from adpe_mm.checkpoints import (
    AtomicLocalBackend,
    add_description,
    check_fits,
    describe_origin,
    find_weights,
    has_backbone,
    is_pretraining,
    read_checkpoint,
    unwrap,
)
from adpe_mm.engine.resuming import choose_checkpoint
from adpe_mm.launch import end_workers
from adpe_mm.models import AdPEViT
from adpe_mm.registry import HOOKS
from adpe_mm.version import __version__

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """mmengine's `CheckpointHook`, but a run can be stopped at any moment and be resumed.

    Files appear whole or not at all, and an old checkpoint is removed only after a newer one is
    safe. Each says what it is: see `describe`.

    On SIGTERM (of Slurm and torchrun), SIGUSR1 (of ``srun --signal=USR1@120``) and the first
    Ctrl-C, process 0 saves ``stopped_iter_N.pth`` at the end of the running iteration, or of the
    optimiser step that it belongs to, and exits with status 143. The other processes go on
    meanwhile, because process 0 needs them to finish that iteration; they end with it. The next
    regular checkpoint of the resumed run replaces that file.

    With `FlexibleRunner` (FSDP) signals do what they always do: there all processes must save
    together, and would have to agree on an iteration first.

    Args:
        **kwargs: See mmengine's `CheckpointHook`.

    Raises:
        FileNotFoundError: If the checkpoint to resume from is gone.
        ValueError: If it is damaged, and no other is left.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**dict(dict(backend_args=dict(backend='adpe_mm_atomic')), **kwargs))
        self.stopped_by: signal.Signals | None = None
        self._handlers: dict[signal.Signals, object] = {}  # those before ours

    def before_run(self, runner: Runner) -> None:
        """Choose the checkpoint that mmengine is about to resume from."""
        if runner._resume and not isinstance(runner, FlexibleRunner):
            choose_checkpoint(runner)

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        if not isinstance(runner, FlexibleRunner):
            self._handlers = {number: signal.signal(number, self._stop) for number in SIGNALS}

    def after_train(self, runner: Runner) -> None:
        super().after_train(runner)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _stop(self, number: int, frame) -> None:
        self.stopped_by = signal.Signals(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # the second Ctrl-C is final

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None):
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        if self.stopped_by is None or self.is_last_train_iter(runner):
            return  # after the last iteration the run ends, and saves, by itself
        if not runner.optim_wrapper.should_update():
            return  # accumulated gradients are in no checkpoint
        if runner.rank != 0:
            # The next exchange fails when process 0 is gone, which is no news to anybody.
            sys.excepthook = lambda *_: None
            return
        meta = dict(epoch=runner.epoch, iter=runner.iter + 1)
        path = self._save(runner, f'stopped_iter_{meta["iter"]}.pth', meta, by_epoch=False)
        runner.logger.warning(
            f'stopped by {self.stopped_by.name} after iteration {runner.iter + 1}; saved {path}; '
            'run the same command with --resume to continue'
        )
        end_workers()
        sys.exit(143)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        """What mmengine calls to save; there it removes old checkpoints first."""
        outdated = []
        if self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids:
            if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
                outdated = [self.filename_tmpl.format(self.keep_ckpt_ids[0])]
            self.keep_ckpt_ids.append(step)  # a full deque loses its first
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self._save(runner, name, meta, self.by_epoch, outdated)

    def _save(
        self, runner: Runner, name: str, meta: dict, by_epoch: bool, outdated: list[str] = ()
    ) -> str:
        """Save, let ``last_checkpoint`` name the file, then remove what is outdated."""
        hub = runner.message_hub
        path = self.file_backend.join_path(self.out_dir, name)
        hub.update_info('last_ckpt', path)
        outdated = [*outdated, *hub.get_info('stopped_ckpt', [])]
        hub.update_info('stopped_ckpt', [name] if name.startswith('stopped_') else [])
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
            for old in outdated:
                old = self.file_backend.join_path(self.out_dir, old)
                if self.file_backend.isfile(old):
                    self.file_backend.remove(old)
        return path

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if has_backbone(checkpoint['state_dict']):
            add_description(checkpoint, __version__)


@HOOKS.register_module()
class CheckpointFitHook(Hook):
    """Raises where mmengine would only log that a checkpoint does not fit, and train on.

    A checkpoint of pretraining that is loaded for another task (``load_from``) gives its backbone,
    and leaves decoder and adversary behind. What a task began from is kept in its checkpoints, in
    the message hub under 'pretraining': ``method``, ``variant``, ``checkpoint`` and ``sha256``.
    An average of the weights (`EMAHook`) takes the look-up of relative positions that was loaded.

    Raises:
        ValueError: When a checkpoint is loaded or resumed that is of another architecture.
    """

    def __init__(self) -> None:
        self.origin = dict(method='scratch', variant=None, checkpoint=None, sha256=None)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        model = unwrap(runner.model)
        weights = find_weights(checkpoint)
        transfer = is_pretraining(weights) and not is_pretraining(model.state_dict())
        if not transfer or not isinstance(model.backbone, AdPEViT):
            check_fits(model, weights)
            return
        model.backbone.load_pretrained(weights)
        self.origin = describe_origin(getattr(runner, '_load_from', None), checkpoint)
        runner.logger.info(f'began from {self.origin}; decoder and adversary are left behind')
        # What the runner loads after this: the whole network, backbone included.
        checkpoint['state_dict'] = model.state_dict()

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
