"""A runner that scales lr by the real global batch, fits schedules to the training's length, runs
several processes on a CPU, and reads checkpoints as weights only.
"""

from collections.abc import Sequence

from mmengine.device import get_device
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import OptimWrapper
from mmengine.optim.scheduler.param_scheduler import _ParamScheduler
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner
from torch import nn
from torch.utils.data import DataLoader

from adpe_mm.checkpoints import find_weights, read_checkpoint, unwrap
from adpe_mm.datasets import guard_files
from adpe_mm.engine.hooks.compile import CompileHook
from adpe_mm.engine.hooks.unreadable import UnreadableImagesHook
from adpe_mm.engine.schedules import check_times, in_iterations
from adpe_mm.registry import RUNNERS
from adpe_mm.version import compare_versions, somebody_watches, untested

# Settings of a loader that are for its worker processes.
OF_WORKERS = (
    'persistent_workers',
    'prefetch_factor',
    'worker_init_fn',
    'timeout',
    'multiprocessing_context',
)


@RUNNERS.register_module()
class AdPERunner(Runner):
    """mmengine's `Runner`; the docstrings say what differs."""

    def scale_lr(self, optim_wrapper: OptimWrapper, auto_scale_lr: dict | None = None) -> None:
        """Scale every lr, the adversary's too, by the global batch over ``base_batch_size``.

        The global batch counts gradient accumulation, which mmengine's runner leaves out.
        """
        if not (auto_scale_lr or {}).get('enable', False):
            return
        loader = self._train_dataloader
        per_process = loader['batch_size'] if isinstance(loader, dict) else loader.batch_size
        accumulated = optim_wrapper._accumulative_counts
        batch, base = self.world_size * per_process * accumulated, auto_scale_lr['base_batch_size']
        for group in optim_wrapper.param_groups:
            group['lr'] *= batch / base
        rates = sorted({group['lr'] for group in optim_wrapper.param_groups})
        self.logger.info(
            f'global batch {batch} = {self.world_size} processes x {per_process} x {accumulated} '
            f'accumulated; lr scaled by {batch} / {base} to '
            + ' ... '.join(f'{rate:.4g}' for rate in {rates[0], rates[-1]})
        )

    def _build_param_scheduler(
        self, scheduler: _ParamScheduler | dict | list, optim_wrapper: OptimWrapper
    ) -> list[_ParamScheduler]:
        """Build schedules, which may state fractions of the training: see `in_iterations`.

        Raises:
            ValueError: If a schedule would begin after the end of the training.
        """
        given = scheduler if isinstance(scheduler, Sequence) else [scheduler]
        loop = self.train_loop
        epochs = loop.max_epochs if isinstance(loop, EpochBasedTrainLoop) else None
        schedules = []
        for schedule in given:
            if isinstance(schedule, dict):
                schedule = in_iterations(schedule, loop.max_iters)
                warning = check_times(schedule, epochs, loop.max_iters)
                if warning:
                    self.logger.warning(warning)
            schedules.append(schedule)
        return super()._build_param_scheduler(schedules, optim_wrapper)

    def register_default_hooks(self, hooks: dict[str, Hook | dict | None] | None = None) -> None:
        """Register hooks by name; None leaves any of them out, not only one of mmengine's."""
        super().register_default_hooks(
            {name: Hook() if hook is None else hook for name, hook in (hooks or {}).items()}
        )

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | dict, seed: int | None = None, diff_rank_seed: bool = False
    ) -> DataLoader:
        """Build a loader, whose errors name the file that cannot be read.

        With ``num_workers=0`` it leaves out the settings of worker processes, which torch refuses.
        """
        if isinstance(dataloader, dict) and not dataloader.get('num_workers'):
            dataloader = {k: v for k, v in dataloader.items() if k not in OF_WORKERS}
        loader = Runner.build_dataloader(dataloader, seed, diff_rank_seed)
        guard_files(loader.dataset, skips=False)
        return loader

    def build_evaluator(self, evaluator: Evaluator | dict | list) -> Evaluator:
        """Build an evaluator, whose accuracies are of no more classes than there are."""
        evaluator = super().build_evaluator(evaluator)
        head = getattr(unwrap(self.model), 'head', None)
        classes = getattr(head, 'num_classes', None)
        for metric in evaluator.metrics:
            topk = getattr(metric, 'topk', None)
            if classes and isinstance(topk, tuple) and max(topk) > classes:
                metric.topk = tuple(k for k in topk if k <= classes) or (1,)
                self.logger.warning(
                    f'top-{max(topk)} accuracy needs as many classes, and there are {classes}: '
                    f'measured is top-{", top-".join(map(str, metric.topk))}'
                )
        return evaluator

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the loop of the training, which `UnreadableImagesHook` lets skip broken files."""
        if isinstance(self._train_dataloader, dict):
            # Not by the loop: mmengine's starts the loader's processes as it is built.
            self._train_dataloader = self.build_dataloader(
                self._train_dataloader,
                seed=self.seed,
                diff_rank_seed=self._randomness_cfg.get('diff_rank_seed', False),
            )
        if any(isinstance(hook, UnreadableImagesHook) for hook in self.hooks):
            guard_files(self._train_dataloader.dataset, skips=True)
        return super().build_train_loop(loop)

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Wrap for several processes.

        Gradients are views of the buckets that DDP exchanges: no copies, and no second memory for
        them. mmengine would give DDP a device number on a CPU too, and torch's SyncBatchNorm needs
        a GPU: on a CPU each process normalises its own images.
        """
        if get_device() == 'cpu':
            model = revert_sync_batchnorm(model)
        if not self.distributed:
            return super().wrap_model(model_wrapper_cfg, model)
        wrapper = dict(
            model_wrapper_cfg
            or dict(
                broadcast_buffers=False,
                find_unused_parameters=self.cfg.get('find_unused_parameters', False),
                gradient_as_bucket_view=True,
            )
        )
        if get_device() == 'cpu':
            wrapper['device_ids'] = None
        return super().wrap_model(wrapper, model)

    def _log_env(self, env_cfg: dict) -> None:
        """Log the environment, and which libraries adpe_mm was not tested with."""
        super()._log_env(env_cfg)
        doubts = compare_versions()[1]
        if doubts and not somebody_watches():  # who watches has seen the warning already
            self.logger.warning(untested(doubts))

    def _maybe_compile(self, target: str) -> None:
        """With ``compile`` in the config, compile the transformer blocks: see `CompileHook`.

        mmengine would compile the whole step, with DDP, logging and the optimiser in it.
        """
        options = self.cfg.get('compile')
        if target == 'train_step' and options not in (None, False):
            self.register_hook(CompileHook(**(options if isinstance(options, dict) else {})))

    def load_checkpoint(
        self, filename: str, map_location: str = 'cpu', strict: bool = True, **kwargs
    ) -> dict:
        """Load the weights of a checkpoint, without running any code in the file.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it cannot be read as weights only. That it fits is checked by
                `CheckpointFitHook`.
        """
        checkpoint = read_checkpoint(filename, map_location)
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        unwrap(self.model).load_state_dict(find_weights(checkpoint, filename), strict=strict)
        self._has_loaded = True
        self.logger.info(f'loaded {filename}')
        return checkpoint
