"""What it takes to run a training step on a GPU that need not be there, in a `FakeTensorMode`.

Shapes, dtypes, strides and devices of all tensors are known then, their values are not, and they
take no memory.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction
from torch.overrides import TorchFunctionMode

aten = torch.ops.aten


class GPUAttention(TorchFunctionMode):
    """`scaled_dot_product_attention` as on a GPU in training, which PyTorch would ask for.

    Flash attention without a bias; else the memory-efficient kernel, which pads a copy of a bias
    whose rows do not begin at multiples of 16 bytes; mathematics where a width is none of 8.
    (aten/src/ATen/native/transformers/attention.cpp and cuda/sdp_utils.cpp of pytorch/pytorch)
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is F.scaled_dot_product_attention:
            return self.attend(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def attend(self, q, k, v, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None):
        if q.shape[-1] % 8 or v.shape[-1] % 8:
            math = aten._scaled_dot_product_attention_math
            return math(q, k, v, attn_mask, dropout_p, is_causal, scale=scale)[0]
        if attn_mask is None and q.shape[-1] == v.shape[-1]:
            flash = aten._scaled_dot_product_flash_attention
            return flash(q, k, v, dropout_p, is_causal, scale=scale)[0]
        if attn_mask is not None:
            if not aligned(attn_mask):
                L = attn_mask.shape[-1]
                attn_mask = F.pad(attn_mask, (0, 8 - L % 8))[..., :L]
            attn_mask = attn_mask.expand(*q.shape[:3], k.shape[2])
        efficient = aten._scaled_dot_product_efficient_attention
        return efficient(q, k, v, attn_mask, True, dropout_p, is_causal, scale=scale)[0]


def aligned(bias: Tensor) -> bool:
    """Whether the kernels take a bias as it is: rows begin at multiples of 16 bytes."""
    *strides, last = bias.stride()
    return last == 1 and not any(stride % 8 for stride in strides)


@contextmanager
def autocast_on_imagined_gpu(dtype: torch.dtype) -> Iterator[None]:
    """`torch.autocast('cuda', dtype)`, which does nothing where there is no GPU."""
    before = torch.is_autocast_enabled('cuda'), torch.get_autocast_dtype('cuda')
    torch.set_autocast_enabled('cuda', dtype != torch.float32)
    if dtype != torch.float32:
        torch.set_autocast_dtype('cuda', dtype)
    torch.autocast_increment_nesting()
    try:
        yield
    finally:
        if torch.autocast_decrement_nesting() == 0:
            torch.clear_autocast_cache()
        torch.set_autocast_enabled('cuda', before[0])
        torch.set_autocast_dtype('cuda', before[1])


@torch.no_grad()
def backward(loss: Tensor) -> None:
    """What ``loss.backward()`` computes, node by node; PyTorch's engine asks the GPU for a stream.

    The gradients of parameters are computed and forgotten.
    """
    waiting = Counter()  # node: users whose gradient it still waits for
    stack, seen = [loss.grad_fn], {loss.grad_fn}
    while stack:
        for user, _ in stack.pop().next_functions:
            if user is not None:
                waiting[user] += 1
                if user not in seen:
                    seen.add(user)
                    stack.append(user)
    gradients = defaultdict(dict)  # node: output number: gradient
    gradients[loss.grad_fn][0] = torch.ones_like(loss)
    ready = [loss.grad_fn]
    while ready:
        node = ready.pop()
        if type(node).__name__ == 'AccumulateGrad':
            continue
        own = gradients.pop(node, {})
        given = [own.get(i) for i in range(len(node._input_metadata))]
        run = node.apply if isinstance(node, BackwardCFunction) else node
        results = run(*given) if own else [None] * len(node.next_functions)
        results = results if isinstance(results, tuple | list) else (results,)
        for (user, number), gradient in zip(node.next_functions, results, strict=False):
            if user is None:
                continue
            if gradient is not None:
                expected = user._input_metadata[number]
                gradient = gradient.sum_to_size(expected.shape).to(expected.dtype)
                kept = gradients[user]
                kept[number] = kept[number] + gradient if number in kept else gradient
            waiting[user] -= 1
            if not waiting[user]:
                ready.append(user)


def imagine(network: nn.Module) -> nn.Module:
    """Put a network's parameters and buffers onto an imagined GPU, in a `FakeTensorMode`."""
    for module in network.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    moved = torch.empty(tensor.shape, dtype=tensor.dtype, device='cuda')
                    if isinstance(tensor, nn.Parameter):
                        moved = nn.Parameter(moved, tensor.requires_grad)
                    tensors[name] = moved
    return network
