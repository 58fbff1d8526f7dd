"""A runner that scales lr by the real global batch, fits schedules to the training's length, runs
several processes on a CPU, shards, and reads checkpoints as weights only.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import mmengine
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import is_main_process
from mmengine.evaluator import Evaluator
from mmengine.hooks import EMAHook as MMEngineEMAHook
from mmengine.hooks import Hook
from mmengine.model import convert_sync_batchnorm, revert_sync_batchnorm
from mmengine.optim import OptimWrapper
from mmengine.optim.scheduler.param_scheduler import _ParamScheduler
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner
from mmengine.runner.checkpoint import weights_to_cpu
from mmengine.utils import apply_to
from torch import nn
from torch.utils.data import DataLoader

from adpe_mm.checkpoints import find_weights, read_checkpoint, unwrap, write_checkpoint
from adpe_mm.datasets import fit_channels, guard_files, too_little_shared_memory
from adpe_mm.engine.hooks.compile import CompileHook
from adpe_mm.engine.hooks.ema import EMAHook
from adpe_mm.engine.hooks.unreadable import UnreadableImagesHook
from adpe_mm.engine.loops import exact_loop
from adpe_mm.engine.resuming import take_over
from adpe_mm.engine.schedules import check_times, in_iterations
from adpe_mm.engine.sharding import (
    Sharding,
    WholeValidationHook,
    is_sharded,
    load_whole_moments,
    standing_in,
    whole,
)
from adpe_mm.errors import UserError
from adpe_mm.models import check_statistics
from adpe_mm.processes import local_processes
from adpe_mm.registry import RUNNERS
from adpe_mm.stopping import outlive_signals, stop
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

    @classmethod
    def from_cfg(cls, cfg: Config) -> 'AdPERunner':
        """Build a runner for images of as many bands as the backbone takes: see `fit_channels`."""
        fit_channels(cfg)
        return super().from_cfg(cfg)

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        """Build the network, whose mean and std must be of as many bands."""
        model = super().build_model(model)
        backbone = getattr(model, 'backbone', None)
        if hasattr(backbone, 'in_channels'):
            check_statistics(model.data_preprocessor, backbone.in_channels)
        return model

    def scale_lr(self, optim_wrapper: OptimWrapper, auto_scale_lr: dict | None = None) -> None:
        """Scale every lr, the adversary's too, by the global batch over ``base_batch_size``.

        The global batch counts gradient accumulation, which mmengine's runner leaves out.
        """
        if not (auto_scale_lr or {}).get('enable', False):
            return
        loader = self._train_dataloader
        if isinstance(loader, dict):
            per_process = loader['batch_size']
        else:  # with a batch sampler of the config the loader itself does not know it
            per_process = loader.batch_size or loader.batch_sampler.batch_size
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
        """Register hooks by name; None leaves any of them out, not only one of mmengine's.

        `IterationSeedHook` is one of them, in configs of other libraries too.
        """
        hooks = dict(dict(iteration_seed=dict(type='adpe_mm.IterationSeedHook')), **(hooks or {}))
        super().register_default_hooks(
            {name: Hook() if hook is None else hook for name, hook in hooks.items()}
        )

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | dict, seed: int | None = None, diff_rank_seed: bool = False
    ) -> DataLoader:
        """Build a loader, whose errors name the file that cannot be read.

        Its workers leave it to the main process when to end: see `outlive_signals`. With
        ``num_workers=0`` it leaves out the settings of worker processes, which torch refuses.
        """
        if isinstance(dataloader, dict) and not dataloader.get('num_workers'):
            dataloader = {k: v for k, v in dataloader.items() if k not in OF_WORKERS}
        loader = Runner.build_dataloader(dataloader, seed, diff_rank_seed)
        guard_files(loader.dataset, skips=False)
        if loader.num_workers:
            loader.worker_init_fn = partial(_start_worker, loader.worker_init_fn)
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
        """Build the loop of the training; mmengine's are replaced by those that resume exactly.

        `UnreadableImagesHook` lets it skip broken files.
        """
        if isinstance(self._train_dataloader, dict):
            # Not by the loop: mmengine's starts the loader's processes as it is built.
            self._train_dataloader = self.build_dataloader(
                self._train_dataloader,
                seed=self.seed,
                diff_rank_seed=self._randomness_cfg.get('diff_rank_seed', False),
            )
        shortage = too_little_shared_memory(self._train_dataloader, local_processes(os.environ))
        if shortage:
            self.logger.warning(shortage)
        if any(isinstance(hook, UnreadableImagesHook) for hook in self.hooks):
            guard_files(self._train_dataloader.dataset, skips=True)
        return super().build_train_loop(exact_loop(loop) if isinstance(loop, dict) else loop)

    def build_val_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the loop of validation; mmengine's is replaced by one that can be stopped."""
        if isinstance(loop, dict) and loop.get('type', 'ValLoop') == 'ValLoop':
            loop = dict(loop, type='adpe_mm.StoppableValLoop')
        return super().build_val_loop(loop)

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Wrap for several processes.

        Gradients become views of the buckets that DDP exchanges: no second memory for them, and no
        copy back. Each is made outside, as none is left of the last step, and goes there in one
        pass, which also divides it by the number of processes. mmengine would give DDP a device
        number on a CPU too, and torch's SyncBatchNorm needs a GPU: on a CPU each process normalises
        its own images.
        """
        if get_device() == 'cpu':
            model = revert_sync_batchnorm(model)
        if not self.distributed:
            return super().wrap_model(model_wrapper_cfg, model)
        if Sharding.from_config(self.cfg.get('sharding')) is not None:
            # `train` shards it. A test needs no exchange: every process has the whole network.
            if get_device() != 'cpu' and self.cfg.get('sync_bn'):
                model = convert_sync_batchnorm(model, self.cfg.sync_bn)
            return model.to(get_device())
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

    def train(self) -> nn.Module:
        """Train, sharded over the processes if the config has ``sharding``: see `Sharding`."""
        try:
            sharding = Sharding.from_config(self.cfg.get('sharding'))
            if sharding is not None and not self.distributed:
                self.logger.warning('sharding: a single process without a launcher shards nothing')
            elif sharding is not None:
                self._shard(sharding)
            return super().train()
        except BaseException:
            stop.drop()  # after an error signals mean again what they meant before
            raise

    def _shard(self, sharding: Sharding) -> None:
        """Shard network and averages, before the optimiser is built, and so with weights by now."""
        super()._init_model_weights()
        averages = [hook for hook in self.hooks if isinstance(hook, MMEngineEMAHook)]
        for hook in averages:
            if not isinstance(hook, EMAHook):
                raise UserError(
                    "under sharding mmengine's EMAHook cannot copy the network: use "
                    "type='adpe_mm.EMAHook'"
                )
            hook.before_run(self)
        sharding.shard(self.model)
        for hook in averages:
            hook.shard(sharding)
        self.register_hook(WholeValidationHook())
        self.logger.info(f'{sharding} over {self.world_size} processes')

    def _init_model_weights(self) -> None:
        """Initialise, if `_shard` has not done it: mmengine would broadcast parts."""
        if not is_sharded(self.model):
            super()._init_model_weights()

    def build_optim_wrapper(self, optim_wrapper: OptimWrapper | dict) -> OptimWrapper:
        """Build the optimiser, which under sharding loads the states of all runs.

        Raises:
            ValueError: For float16 under sharding.
        """
        built = super().build_optim_wrapper(optim_wrapper)
        if is_sharded(self.model) and built is not optim_wrapper:
            if getattr(built, 'cast_dtype', None) == torch.float16:
                raise UserError(
                    "sharding is not tested with loss scales: use optim_wrapper.dtype='bfloat16' "
                    "instead of 'float16'"
                )
            load_whole_moments(built.optimizer)
        return built

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

    def set_randomness(
        self, seed: int | None, diff_rank_seed: bool = False, deterministic: bool = False
    ) -> None:
        """Seed all generators; ``deterministic`` asks cuBLAS for it too, which torch demands.

        PyTorch then refuses what it has no such kernel for on a GPU: nothing of pretraining and
        classification, and of mmseg's UperNet the loss of pixels and the gradient of its pooling.
        """
        if deterministic:
            os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
        super().set_randomness(seed, diff_rank_seed, deterministic)

    def save_checkpoint(
        self,
        out_dir: str,
        filename: str,
        file_client_args: dict | None = None,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        meta: dict | None = None,
        by_epoch: bool = True,
        backend_args: dict | None = None,
    ) -> None:
        """Save a checkpoint; all processes call it, after the same iteration, and process 0 writes.

        Under sharding each gives its parts, and the file is that of an unsharded run.

        With ``backend_args=dict(backend='adpe_mm_atomic')`` it goes straight to the disk. mmengine
        writes it to memory first, and then to the disk, or wherever another backend has it.

        Raises:
            DiskFull: If there is no room.
        """
        with self._whole_states():
            if backend_args != dict(backend='adpe_mm_atomic'):
                super().save_checkpoint(
                    out_dir,
                    filename,
                    file_client_args,
                    save_optimizer,
                    save_param_scheduler,
                    meta,
                    by_epoch,
                    backend_args,
                )
                return
            if not is_main_process():
                return
            meta = dict(
                dict(epoch=self.epoch + by_epoch, iter=self.iter + (not by_epoch)),
                **(meta or {}),
                cfg=self.cfg.pretty_text,
                seed=self.seed,
                experiment_name=self.experiment_name,
                time=time.strftime('%Y%m%d_%H%M%S'),
                mmengine_version=mmengine.__version__,
            )
            if hasattr(self.train_dataloader.dataset, 'metainfo'):
                meta['dataset_meta'] = self.train_dataloader.dataset.metainfo
            checkpoint = dict(
                meta=meta,
                state_dict=weights_to_cpu(unwrap(self.model).state_dict()),
                message_hub=_to_cpu(self.message_hub.state_dict()),
            )
            if save_optimizer:
                checkpoint['optimizer'] = _to_cpu(self.optim_wrapper.state_dict())
            if save_param_scheduler and self.param_schedulers is not None:
                checkpoint['param_schedulers'] = [
                    scheduler.state_dict() for scheduler in self.param_schedulers
                ]
            self.call_hook('before_save_checkpoint', checkpoint=checkpoint)
            write_checkpoint(checkpoint, Path(out_dir, filename))

    @contextmanager
    def _whole_states(self) -> Iterator[None]:
        """For the time of saving, let whole states stand in for those of parts."""
        owners = []
        if is_sharded(self.model):
            averages = [hook.ema_model for hook in self.hooks if isinstance(hook, EMAHook)]
            owners = [self.model, self.optim_wrapper, *averages]
        with ExitStack() as stack:
            for owner in owners:
                stack.enter_context(standing_in(owner, whole(owner.state_dict())))
            yield

    def resume(
        self,
        filename: str,
        resume_optimizer: bool = True,
        resume_param_scheduler: bool = True,
        map_location='default',
    ) -> None:
        """Resume; under sharding the file, which is of whole tensors, is read into the host."""
        if map_location == 'default' and is_sharded(self.model):
            map_location = 'cpu'
        super().resume(filename, resume_optimizer, resume_param_scheduler, map_location)

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
        if self._resume:
            take_over(self, checkpoint)
        unwrap(self.model).load_state_dict(find_weights(checkpoint, filename), strict=strict)
        self._has_loaded = True
        self.logger.info(f'loaded {filename}')
        return checkpoint


def _to_cpu(state: dict) -> dict:
    return apply_to(state, torch.is_tensor, torch.Tensor.cpu)


def _start_worker(start: Callable[[int], None] | None, worker_id: int) -> None:
    """Set up a loader's worker, by what its config names first."""
    if start is not None:
        start(worker_id)
    outlive_signals()
