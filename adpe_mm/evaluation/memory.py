"""What a training keeps in the memory of a GPU, counted without one.

Forward runs on imagined tensors (PyTorch's fake tensors): each has a shape, a dtype, a device and a
storage, but no values, so that any network at any batch takes seconds and no memory. Kernels and
casts are those of a GPU.
"""

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.checkpoint import checkpoint

from adpe_mm.engine.sharding import Sharding
from adpe_mm.models.backbones.adpe_vit import Block
from adpe_mm.registry import MODELS

from .imagined_gpu import GPUAttention, autocast_on_imagined_gpu, imagine
from .workload import example, forward

ROOM = 0.9  # of a GPU's memory: the rest is for its context, and is lost between blocks
REST = 'rest'  # what no part of the network keeps, but the whole does


@contextmanager
def imagined(cfg: Config, device: str = 'cuda') -> Iterator[nn.Module]:
    """A config's network for training, whose tensors have no values.

    Within the context all new tensors are imagined, too.
    """
    init_default_scope(cfg.default_scope)
    settings = cfg.model.copy()
    settings.backbone = settings.backbone.copy()
    settings.backbone.init_cfg = None
    with torch.device('meta'):
        # A normalisation over several GPUs keeps what that of one does, and asks for a GPU.
        model = revert_sync_batchnorm(MODELS.build(settings)).train()
    sharding = Sharding.from_config(cfg.get('sharding'))
    for block in model.modules():
        if isinstance(block, Block) and sharding is not None and sharding.activation_checkpointing:
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    with FakeTensorMode():
        yield imagine(model, device)


class Kept:
    """The storages that backward will need, by the part of the network that keeps them first."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.parts = model, []
        self.held = {
            t.untyped_storage()._cdata: None for t in [*model.parameters(), *model.buffers()]
        }
        self.bytes: Counter[str] = Counter()

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.held:
            self.held[storage._cdata] = storage  # so that no other one gets its place
            self.bytes[self.parts[-1] if self.parts else REST] += storage.nbytes()
        return tensor

    def _enter(self, part: str, *_) -> None:
        self.parts.append(part)

    def _leave(self, *_) -> None:
        self.parts.pop()

    @contextmanager
    def count(self) -> Iterator[None]:
        """Count what is kept in the context."""
        hooks = []
        for name, module in self.model.named_modules():
            enter = partial(self._enter, part_of(name))
            hooks.append(module.register_forward_pre_hook(enter))
            hooks.append(module.register_forward_hook(self._leave))
        try:
            with torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor):
                yield
        finally:
            for hook in hooks:
                hook.remove()


def part_of(name: str) -> str:
    """The part that a module's bytes count for: 'backbone.layers.attn', 'decode_head'."""
    words = [word for word in name.split('.') if not word.isdigit()]
    return '.'.join(words[:3] if 'layers' in words[:2] else words[:1]) or REST


def kept_for_backward(cfg: Config, model: nn.Module, images: int) -> Counter[str]:
    """Bytes that forward keeps for backward, by part of the network, in the config's precision.

    Where activations are checkpointed, this includes what one block, the largest, keeps while
    backward makes it again: 'one block again'.

    Args:
        cfg: Of any training.
        model: Its `imagined` network, in that context.
        images: Per GPU and iteration.
    """
    dtype = getattr(torch, cfg.optim_wrapper.get('dtype', 'float32'))
    calls: dict[tuple, tuple] = {}  # a block of each kind, and what it gets

    def remember(block: Block, args: tuple) -> None:
        if args[0].requires_grad:
            calls.setdefault((block.window_size, args[0].shape), (block, args))

    blocks = []
    if checkpoints(cfg):
        blocks = [module for module in model.modules() if isinstance(module, Block)]
    hooks = [block.register_forward_pre_hook(remember) for block in blocks]
    inputs = torch.empty(example(cfg, images).shape, device='cuda')
    kept = Kept(model)
    with GPUAttention():
        with autocast_on_imagined_gpu(dtype), kept.count():
            loss = forward(model, inputs)  # alive until its tensors are counted
        for hook in hooks:
            hook.remove()
        if calls:
            kept.bytes['one block again'] = max(_kept_by(*call, dtype) for call in calls.values())
    assert loss.requires_grad
    return kept.bytes


def checkpoints(cfg: Config) -> bool:
    """Whether blocks keep only their input."""
    sharding = Sharding.from_config(cfg.get('sharding'))
    return bool(
        cfg.model.backbone.get('with_cp') or (sharding and sharding.activation_checkpointing)
    )


def _kept_by(block: Block, args: tuple, dtype: torch.dtype) -> int:
    kept = Kept(block)
    with autocast_on_imagined_gpu(dtype), kept.count():
        out = type(block).forward(block, args[0].detach().requires_grad_(), *args[1:])
    assert out.requires_grad  # and alive
    return sum(kept.bytes.values())


def state_bytes(cfg: Config, model: nn.Module) -> int:
    """Bytes of weights, gradients, moments of the optimiser and averaged weights, in float32."""
    held = sum(t.numel() for t in [*model.parameters(), *model.buffers()])
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    moments = 2 if 'Adam' in cfg.optim_wrapper.optimizer.type else 1
    hooks = [*(cfg.get('default_hooks') or {}).values(), *(cfg.get('custom_hooks') or [])]
    averages = sum(bool(hook) and hook.get('type', '').endswith('EMAHook') for hook in hooks)
    return 4 * (held * (1 + averages) + trained * (1 + moments))


@dataclass
class Memory:
    """What a GPU holds in training, in bytes.

    Attributes:
        images: Per iteration.
        state: Weights, gradients, moments and averages, which the `shards` GPUs share.
        shards: GPUs that share one copy.
        fixed: What forward keeps whatever the batch: weights as autocast casts them.
        per_image: What it keeps of each image.
        parts: What it keeps of all of them, by part of the network.
    """

    images: int
    state: int
    shards: int
    fixed: float
    per_image: float
    parts: dict[str, int]

    @property
    def activations(self) -> float:
        return self.fixed + self.images * self.per_image

    @property
    def total(self) -> float:
        return self.state / self.shards + self.activations

    def largest_batch(self, gigabytes: float) -> int | None:
        """Images that a GPU has room for; None where forward keeps nothing of them."""
        if self.per_image < 1:
            return None
        room = ROOM * gigabytes * 1e9 - self.state / self.shards - self.fixed
        return max(0, math.floor(room / self.per_image))


def memory_of(cfg: Config, gpus: int) -> Memory:
    """What each of a config's GPUs holds."""
    with imagined(cfg) as model:
        return count_memory(cfg, model, gpus)


def count_memory(cfg: Config, model: nn.Module, gpus: int) -> Memory:
    """As `memory_of`, of an `imagined` network. Activations are linear in the images."""
    images = cfg.train_dataloader.batch_size
    few, many = max(images, 2), 2 * images + 2  # UPerNet's BN of one pixel needs two
    of_few, of_many = (kept_for_backward(cfg, model, n) for n in (few, many))
    per_image = (sum(of_many.values()) - sum(of_few.values())) / (many - few)
    sharding = Sharding.from_config(cfg.get('sharding'))
    return Memory(
        images=images,
        state=state_bytes(cfg, model),
        shards=1 if sharding is None else sharding.shards or gpus,
        fixed=sum(of_few.values()) - few * per_image,
        per_image=per_image,
        parts=dict(of_few),
    )
