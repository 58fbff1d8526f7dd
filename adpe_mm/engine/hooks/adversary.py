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
    the gradient over all its parameters: it is small, and mmengine's log prints four decimals.
    Without an adversary (MAE+) the hook does nothing.

    Args:
        interval: Iterations between two entries; each reads three numbers off the device.

    Raises:
        ValueError: At the start of training, if the optimiser does not maximise over the
            adversary.
    """

    def __init__(self, interval: int = 10) -> None:
        self.interval = interval
        self.grad_norm = None

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
        if self.every_n_train_iters(runner, self.interval):
            grads = [param.grad for param in self.adversary.parameters() if param.grad is not None]
            norm = torch.nn.utils.get_total_norm(grads)
            self.grad_norm = norm.full_tensor() if isinstance(norm, DTensor) else norm

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None):
        if self.grad_norm is None:
            return
        state = dict(self.adversary.state(), log10_gradient=self.grad_norm.clamp(min=1e-30).log10())
        for name, value in state.items():
            runner.message_hub.update_scalar(f'train/adversary/{name}', value)
        self.grad_norm = None
