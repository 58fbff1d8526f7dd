"""Projection of the adversary after each step, and its state in the log."""

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.distributed.tensor import DTensor

from adpe_mm.checkpoints import unwrap
from adpe_mm.errors import UserError
from adpe_mm.models.adversaries import Adversary, NoAdversary
from adpe_mm.registry import HOOKS


@HOOKS.register_module()
class AdversaryProjectionHook(Hook):
    """Projects the adversary right after the optimiser's step, and logs what it does.

    Logged every `interval` iterations: 'adversary/size' and 'adversary/projected' (see
    `Adversary.state`), and 'adversary/log10_gradient', the logarithm of the L2 norm of
    the gradient over all its parameters: it is small, and mmengine's log prints four decimals. The
    gradient is that of the step: accumulated, clipped, and in float16 without the loss scale. A
    step that overflows there is left out, here too. Without an adversary (MAE+) the hook does
    nothing.

    Args:
        interval: Iterations between two entries; each waits for the device once.

    Raises:
        ValueError: At the start of training, if the optimiser does not maximise over the
            adversary.
    """

    def __init__(self, interval: int = 10) -> None:
        self.interval = interval
        self.grad_norm: torch.Tensor | None = None
        self.overflow: torch.Tensor | None = None  # 1 if the step is left out

    def before_train(self, runner: Runner) -> None:
        model = unwrap(runner.model)
        self.adversary: Adversary = getattr(model, 'adversary', NoAdversary())
        if isinstance(self.adversary, NoAdversary):
            return
        optimizer = runner.optim_wrapper.optimizer
        ours = {id(param) for param in self.adversary.parameters()}
        for group in optimizer.param_groups:
            if not group.get('maximize') and any(id(param) in ours for param in group['params']):
                raise UserError(
                    'the optimiser minimises over the adversary: set optim_wrapper.constructor='
                    "'adpe_mm.LayerDecayOptimWrapperConstructor'"
                )
        # Hooks of the optimiser, because only there gradients are reduced, unscaled, and present.
        optimizer.register_step_pre_hook(lambda *_: self._record(runner))
        optimizer.register_step_post_hook(lambda *_: self.adversary.project())

    def _record(self, runner: Runner) -> None:
        if not self.every_n_train_iters(runner, self.interval):
            return
        grads = [param.grad for param in self.adversary.parameters() if param.grad is not None]
        norm = torch.nn.utils.get_total_norm(grads)
        norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        # A fused optimiser unscales, and leaves out steps that overflow, by itself: see GradScaler.
        optimizer = runner.optim_wrapper.optimizer
        scale = getattr(optimizer, 'grad_scale', None)
        self.grad_norm = norm if scale is None else norm / scale
        self.overflow = getattr(optimizer, 'found_inf', None)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None):
        if self.grad_norm is None:
            return
        state = dict(self.adversary.state(), log10_gradient=self.grad_norm.clamp(min=1e-30).log10())
        if self.overflow is not None:
            state['overflow'] = self.overflow
        numbers = torch.stack([value.double() for value in state.values()]).tolist()
        self.grad_norm = None
        logged = dict(zip(state, numbers, strict=True))
        if logged.pop('overflow', 0):
            return
        for name, value in logged.items():
            runner.message_hub.update_scalar(f'train/adversary/{name}', value)
