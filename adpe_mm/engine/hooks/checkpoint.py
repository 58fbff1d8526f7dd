"""Checkpoints that survive being interrupted."""

import os
import signal
import sys
import tempfile
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from adpe_mm.registry import HOOKS
from adpe_mm.utils.launch import end_workers


class AtomicLocalBackend(LocalBackend):
    """Local files that appear whole or not at all."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes to a new file beside the target, then put it in its place."""
        folder = Path(filepath).parent
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder, prefix='.', suffix='.tmp')
        try:
            with os.fdopen(handle, 'wb') as file:
                file.write(obj)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)
            os.replace(name, filepath)
        except BaseException:
            os.unlink(name)
            raise


register_backend('adpe_mm_atomic', AtomicLocalBackend, force=True)


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """mmengine's `CheckpointHook` that writes whole files, and one more when the job is stopped.

    On SIGTERM (of Slurm and torchrun), SIGUSR1 (of ``srun --signal=USR1@120``) and the first
    Ctrl-C, process 0 saves ``iter_N.pth`` at the end of the running iteration and exits with
    status 143. The other processes go on meanwhile, because process 0 needs them to finish that
    iteration; they end with it.

    Args:
        **kwargs: As of mmengine's `CheckpointHook`.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**dict(dict(backend_args=dict(backend='adpe_mm_atomic')), **kwargs))
        self.stopped_by: signal.Signals | None = None

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
            signal.signal(number, self._stop)

    def _stop(self, number: int, frame) -> None:
        self.stopped_by = signal.Signals(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # the second Ctrl-C is final

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None):
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        if self.stopped_by is None:
            return
        if runner.rank != 0:
            # The next exchange fails when process 0 is gone, which is no news to anybody.
            sys.excepthook = lambda *_: None
            return
        name = f'iter_{runner.iter + 1}.pth'
        runner.save_checkpoint(self.out_dir, name, by_epoch=False, backend_args=self.backend_args)
        path = os.path.join(self.out_dir, name)
        Path(runner.work_dir, 'last_checkpoint').write_text(path)
        runner.logger.warning(
            f'stopped by {self.stopped_by.name} after iteration {runner.iter + 1}; saved {path}; '
            'run the same command with --resume to continue'
        )
        end_workers()
        sys.exit(143)

    def after_train(self, runner: Runner) -> None:
        super().after_train(runner)
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
