"""Stops a run, or leaves a step out, when the loss is no number any more."""

import math
from collections import deque
from functools import wraps
from pathlib import Path

import torch
from mmengine.dist import all_reduce, get_rank, is_distributed
from mmengine.hooks import EMAHook, Hook, LoggerHook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner, find_latest_checkpoint
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn.modules.batchnorm import _NormBase

from adpe_mm.checkpoints import unwrap
from adpe_mm.errors import UserError
from adpe_mm.models import NoAdversary
from adpe_mm.registry import HOOKS

POLICIES = ('stop', 'skip', 'ignore')
BEHIND = 4  # iterations that the device may be behind before their losses are waited for
LARGE = 1e3  # of an adversary, in patches or units of the embedding: nothing sensible comes near it


def largest(tensors: list[Tensor]) -> Tensor:
    """0-d: the largest absolute value, of shards that of this process; NaN if there is one."""
    tensors = [t.to_local() if isinstance(t, DTensor) else t for t in tensors]
    return torch.nn.utils.get_total_norm([t for t in tensors if t.numel()], norm_type=math.inf)


def are_finite(tensors: list[Tensor]) -> bool:
    """Whether all are numbers; of shards, those of all processes, which must ask together."""
    finite = largest(tensors).isfinite()
    if any(isinstance(t, DTensor) for t in tensors):
        finite = finite.to(torch.uint8)
        all_reduce(finite, 'min')
    return bool(finite)


def is_finite(runner: Runner) -> bool:
    """Whether weights, their average, statistics and the optimiser's state are, in all processes.

    All must ask together: one of them may have running statistics that are not.
    """
    state = [*unwrap(runner.model).state_dict().values()]
    for hook in runner.hooks:
        if isinstance(hook, EMAHook) and hook.ema_model is not None:
            state += hook.ema_model.state_dict().values()
    if isinstance(runner.optim_wrapper, OptimWrapper):
        state += [
            v for held in runner.optim_wrapper.optimizer.state.values() for v in held.values()
        ]
    finite = are_finite([t for t in state if torch.is_tensor(t) and t.is_floating_point()])
    agreed = torch.tensor(finite, dtype=torch.uint8)
    if is_distributed():
        all_reduce(agreed, 'min')
    return bool(agreed)


@HOOKS.register_module()
class FiniteHook(Hook):
    """Looks whether the loss is finite, without waiting for the device.

    Each loss is copied to the host behind the device's back and read once it has arrived, at the
    latest four iterations later. Processes tell each other whenever the log is written, before a
    validation, and at the end. In any case `SafeCheckpointHook` saves nothing that is not finite.

    Args:
        policy: 'stop' ends the run with a sentence. The batch, and the paths of its images where it
            has them, are kept in the work dir as ``nonfinite_iter_N.pth``. 'skip' leaves out
            steps of the optimiser whose gradient is not finite: weights, running statistics,
            optimiser and adversary stay as they were. This reads one number per step off the
            device. In float16 the loss scale does so by itself. 'ignore' trains on.
        max_skips: Steps in a row that 'skip' leaves out at the most; one more ends the run.

    Raises:
        ValueError: For an unknown policy; in training, when the run ends.
    """

    def __init__(self, policy: str = 'stop', max_skips: int = 10) -> None:
        if policy not in POLICIES:
            raise UserError(f"FiniteHook.policy must be one of {POLICIES}, got '{policy}'")
        self.policy = policy
        self.max_skips = max_skips
        self.skipped = self.in_a_row = 0
        self.arriving: deque = deque()  # iteration, loss, when it is there, batch
        self.found: tuple[int, float] | None = None  # iteration from 1, loss
        self.adversary_size: Tensor | None = None
        self.training = False

    def before_train(self, runner: Runner) -> None:
        self.training = True
        model = unwrap(runner.model)
        self.adversary = getattr(model, 'adversary', NoAdversary())
        self.unbound = self.adversary.norm is None and bool(list(self.adversary.parameters()))
        loggers = [hook.interval for hook in runner.hooks if isinstance(hook, LoggerHook)]
        self.interval = min(loggers, default=1)
        scaler = getattr(runner.optim_wrapper, 'loss_scaler', None)
        self.guards = self.policy == 'skip' and not (scaler is not None and scaler.is_enabled())
        if self.guards:
            step = runner.optim_wrapper.step
            # `wraps`, as mmengine's schedulers look for a mark that they left on it.
            guarded = wraps(step)(lambda **kwargs: self._step(runner, step, kwargs))
            runner.optim_wrapper.step = guarded

    # Policy 'skip'

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        wrapper = runner.optim_wrapper
        if self.guards and wrapper._inner_count % wrapper._accumulative_counts == 0:
            # A forward pass has changed them by the time that its gradient is known.
            self.statistics = [
                (buffer, buffer.clone())
                for module in unwrap(runner.model).modules()
                if isinstance(module, _NormBase)
                for buffer in module.buffers(recurse=False)
            ]

    def _step(self, runner: Runner, step, kwargs: dict) -> None:
        groups = runner.optim_wrapper.param_groups
        grads = [p.grad for group in groups for p in group['params'] if p.grad is not None]
        if are_finite(grads):  # after the exchange: all processes decide alike
            self.in_a_row = 0
            step(**kwargs)
            return
        for buffer, before in self.statistics:
            buffer.copy_(before)
        self.skipped += 1
        self.in_a_row += 1
        runner.message_hub.update_scalar('train/skipped', self.skipped)
        runner.logger.warning(
            f'iteration {runner.iter + 1}: the gradient is not finite, the step is left out '
            f'({self.in_a_row} in a row, {self.skipped} in all)'
        )
        if self.in_a_row > self.max_skips:
            raise UserError(
                f'the gradients of {self.in_a_row} steps in a row are not finite, more than '
                f'FiniteHook.max_skips allows: {self._advice(runner)}'
            )

    # Policy 'stop'

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None):
        self._remember_adversary()
        if self.policy != 'stop':
            return
        loss, arrived = outputs['loss'].detach(), None
        if loss.is_cuda:
            loss = torch.empty((), dtype=loss.dtype, pin_memory=True).copy_(loss, non_blocking=True)
            arrived = torch.cuda.Event()
            arrived.record()
        self.arriving.append((runner.iter + 1, loss, arrived, data_batch))
        last = self.is_last_train_iter(runner)
        self._read(runner, wait=last)
        if last or self.every_n_inner_iters(batch_idx, self.interval):
            self._agree(runner)

    def before_val(self, runner: Runner) -> None:
        if self.training and self.policy == 'stop':
            self._read(runner, wait=True)
            self._agree(runner)

    def _read(self, runner: Runner, wait: bool) -> None:
        while self.arriving and self.found is None:
            iteration, loss, arrived, batch = self.arriving[0]
            if arrived is not None:
                if not (wait or len(self.arriving) > BEHIND or arrived.query()):
                    return
                arrived.synchronize()
            self.arriving.popleft()
            if not loss.isfinite():
                self.found = iteration, loss.item()
                self._keep(runner, iteration, batch)

    def _agree(self, runner: Runner) -> None:
        """End in all processes together, if one of them has met a loss that is not finite."""
        first = torch.tensor(self.found[0] if self.found else math.inf, dtype=torch.float64)
        if is_distributed():
            all_reduce(first, 'min')
        if first.isfinite():
            what = f'the loss is {self.found[1]}' if self.found else 'a loss is not finite'
            raise UserError(
                f'{what} since iteration {int(first)}, at lr '
                f'{max(group["lr"] for group in runner.optim_wrapper.param_groups):.3g}; its batch '
                f"is kept as '{self._path(runner, int(first)).parent}/nonfinite_iter_*.pth': "
                f'{self._advice(runner)}'
            )

    def _keep(self, runner: Runner, iteration: int, batch: dict) -> None:
        samples = batch.get('data_samples') or []
        paths = [
            sample.metainfo.get('img_path') for sample in samples if hasattr(sample, 'metainfo')
        ]
        path = self._path(runner, iteration)
        torch.save(dict(iteration=iteration, inputs=batch['inputs'], paths=paths), path)

    @staticmethod
    def _path(runner: Runner, iteration: int) -> Path:
        process = f'_process_{get_rank()}' if is_distributed() else ''
        return Path(runner.work_dir, f'nonfinite_iter_{iteration}{process}.pth')

    # What both say

    def _remember_adversary(self) -> None:
        if self.unbound:
            size = largest([param.detach() for param in self.adversary.parameters()])
            before = size if self.adversary_size is None else self.adversary_size
            self.adversary_size = torch.where(size.isfinite(), size, before)

    def _advice(self, runner: Runner) -> str:
        newest = find_latest_checkpoint(runner.work_dir)
        saved = f"the last checkpoint is '{newest}'" if newest else 'there is no checkpoint yet'
        if self.adversary_size is not None and not self.adversary_size <= LARGE:
            return (
                f'the adversary had grown to {self.adversary_size.item():.3g} '
                f'{self.adversary.unit}: set model.adversary.norm and eps, or lower '
                f'optim_wrapper.paramwise_cfg.ascent.lr ({saved})'
            )
        return (
            'lower optim_wrapper.optimizer.lr, clip gradients by optim_wrapper.clip_grad, or leave '
            f"such steps out by default_hooks.finite.policy='skip' ({saved})"
        )
