"""LARS, as MAE trains its linear probes."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.optim import Optimizer

from adpe_mm.errors import UserError
from adpe_mm.registry import OPTIMIZERS


@OPTIMIZERS.register_module()
class LARS(Optimizer):
    """SGD whose step is as long as the tensor that it moves (You et al., arXiv 1708.03888).

    The gradient g of a tensor p of two or more dimensions becomes ``g + weight_decay * p``, of
    length ``trust * |p|``; that of a vector, such as a bias, stays as it is. Then
    ``m = momentum * m + g`` and ``p = p - lr * m``, as in MAE (its `util/lars.py`) and MoCo v3.

    mmpretrain's `LARS` differs: it adapts vectors too, divides by ``|g| + weight_decay * |p|``,
    and multiplies by lr before the momentum, so that old steps keep the lr of their time.

    Args:
        params: Tensors, or groups of them.
        lr: Learning rate.
        momentum: Of the adapted gradients.
        weight_decay: Fraction of the tensor that its gradient is lengthened by; never of vectors.
        trust: Length of an adapted gradient over that of its tensor.

    Raises:
        ValueError: If one of the numbers is negative.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 1e-3,
    ) -> None:
        defaults = dict(lr=lr, momentum=momentum, weight_decay=weight_decay, trust=trust)
        for name, value in defaults.items():
            if value < 0:
                raise UserError(f'LARS.{name} must not be negative, got {value}')
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Move all tensors that have a gradient. Returns what `closure` returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for param in group['params']:
                if param.grad is None:
                    continue
                update = param.grad
                if param.ndim > 1:
                    update = update.add(param, alpha=group['weight_decay'])
                    length, wanted = update.norm(), group['trust'] * param.norm()
                    # A tensor, or gradient, of zeros gives no length to adapt to.
                    update = update * torch.where((wanted > 0) & (length > 0), wanted / length, 1.0)
                state = self.state[param]
                if not state:
                    state['momentum'] = torch.zeros_like(param)
                state['momentum'].mul_(group['momentum']).add_(update)
                param.sub_(state['momentum'], alpha=group['lr'])
        return loss
