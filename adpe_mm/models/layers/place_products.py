"""Products of queries with keys of their place, in as few passes over memory as there can be.

Letters in shapes: L places, B batch, H heads, D width, K keys; W is D, or 2 * D with a mask.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# Entries at multiples of which rows begin: 16 bytes in half precision, which a GPU's kernels want.
ALIGNMENT, ALIGNMENT_ON = 8, dict(cpu=1)


def missing(size: int, device: torch.device) -> int:
    """How many entries a row of `size` lacks for the next one to begin at a multiple."""
    return -size % ALIGNMENT_ON.get(device.type, ALIGNMENT)


class PlaceProducts(torch.autograd.Function):
    """``query @ keys`` at each place, where masked queries have more keys.

    Of (L, B, H, D) queries and (L, W, K) keys the result is (L, B * H, K). With a mask, (L, B)
    bool, the first D channels of the keys are of all queries, and the others of masked ones.

    By hand, as autograd would copy: queries are widened in one pass, and their gradients added in
    one. On a GPU the rows of the result begin at multiples of 16 bytes, between which there is
    nothing to be read.
    """

    @staticmethod
    def forward(ctx, query: Tensor, masked: Tensor | None, keys: Tensor) -> Tensor:
        if masked is not None:
            factor = torch.stack((torch.ones_like(masked), masked), dim=-1).to(query.dtype)
            L, B, H, D = query.shape
            wide = query.new_empty(L, B, H, 2, D)  # where it would else take the layout of `query`
            torch.mul(query.unsqueeze(3), factor[:, :, None, :, None], out=wide)
            query = wide.flatten(3)
        query = query.contiguous()
        K = keys.shape[2]
        keys = F.pad(keys, (0, missing(K, query.device)))
        ctx.heads = query.shape[1:3]
        ctx.save_for_backward(query, masked, keys)
        return torch.bmm(query.flatten(1, 2), keys)[..., :K]

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, Tensor]:
        query, masked, keys = ctx.saved_tensors
        K = gradient.shape[2]
        of_query = torch.bmm(gradient, keys[..., :K].transpose(1, 2)).unflatten(1, ctx.heads)
        if masked is not None:
            of_all, of_masked = of_query.unflatten(3, (2, -1)).unbind(3)
            of_query = torch.addcmul(of_all, of_masked, masked.to(of_all.dtype)[..., None, None])
        return of_query, None, torch.bmm(query.flatten(1, 2).transpose(1, 2), gradient)


def aligned(bias: Tensor) -> Tensor:
    """A bias of logits whose rows begin at multiples of 16 bytes, on a GPU.

    PyTorch's memory-efficient kernel gets a padded copy else, and cuDNN's, which serves where no
    bias learns, the unaligned one (aten/src/ATen/native/transformers/attention.cpp of
    pytorch/pytorch). So every kernel may take it, and none need be chosen.

    Args:
        bias: (..., K).
    """
    *strides, last = bias.stride()
    if last == 1 and not any(missing(stride, bias.device) for stride in strides):
        return bias
    K = bias.shape[-1]
    pad = missing(K, bias.device)
    return F.pad(bias, (0, pad))[..., :K] if pad else bias.contiguous()
