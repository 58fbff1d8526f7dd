"""Layer normalisation of a branch, which leaves the residual stream as it is."""

import torch
from torch import Tensor, nn

from .context import without_autocast


class BranchNorm(nn.LayerNorm):
    """A layer norm that can normalise in the precision that the branch behind it computes in.

    Autocast normalises in float32 what the branch's first product then rounds to bfloat16. Here
    the tokens are rounded first: they are read in float32 once, in forward and in backward, in
    place of three times, and the branch keeps half as many bytes of them. Mean and variance are
    computed in float32 in either case, and the residual stream stays in float32. (In float16, whose
    range is small, it is autocast's way.)
    """

    def branch(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Normalise the last axis for a branch.

        Args:
            x: (..., E).

        Returns:
            `x`, to which the branch is to be added, and the normalised tensor for the branch.
        """
        device = x.device.type
        rounds = device != 'meta' and torch.is_autocast_enabled(device)
        if not rounds or torch.get_autocast_dtype(device) != torch.bfloat16:
            return x, self(x)
        weight, bias = self.weight.bfloat16(), self.bias.bfloat16()
        with without_autocast(x.device):
            return _RoundedNorm.apply(x, weight, bias, self.eps)


class _RoundedNorm(torch.autograd.Function):
    """`x`, and its layer norm in the precision of the weight.

    In backward the gradients of both are added as they come, where autograd would first convert
    the second.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        rounded = x.to(weight.dtype)
        normed, mean, rstd = torch.native_layer_norm(rounded, weight.shape, weight, bias, eps)
        ctx.save_for_backward(rounded, mean, rstd, weight, bias)
        return x.view_as(x), normed

    @staticmethod
    def backward(ctx, of_x: Tensor, of_normed: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        rounded, mean, rstd, weight, bias = ctx.saved_tensors
        through_norm, of_weight, of_bias = torch.ops.aten.native_layer_norm_backward(
            of_normed, rounded, weight.shape, mean, rstd, weight, bias, ctx.needs_input_grad[:3]
        )
        return of_x if through_norm is None else of_x + through_norm, of_weight, of_bias, None
