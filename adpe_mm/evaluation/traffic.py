"""Bytes that a training step moves through a GPU's memory, counted without a GPU.

The step runs on imagined tensors (PyTorch's fake tensors): their shapes, dtypes, strides and device
are known, their values are not, and they take no memory. Of each operator the tensors that it reads
and writes are added, each once. Caches may save some of it, and kernels that pass twice over their
input need more: this is a model, for comparing two forms of the same step.

`Traffic.total` is what runs one operator after the other. `Traffic.fused` is what is left where
everything between two products of matrices is one kernel, about what torch.compile makes of it.
"""

import argparse
from collections import Counter, defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.torch_version import TorchVersion
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from adpe_mm.errors import MachineError

from .imagined_gpu import GPUAttention, autocast_on_imagined_gpu, backward, imagine
from .speed import design_model

KINDS = ('products', 'attention', 'pointwise', 'casts', 'copies', 'norms', 'sums')
OUTSIDE = KINDS[2:]  # of matrix products and attention
# What becomes part of a kernel beside it; a sum over all tokens is one of its own.
FUSIBLE = {'pointwise', 'casts', 'copies', 'norms'}
PRODUCTS = {'mm', 'addmm', 'bmm', 'baddbmm', 'convolution', 'convolution_backward'}
COPIES = {
    'cat', 'stack', 'clone', 'copy_', 'constant_pad_nd', 'slice_backward', 'select_backward',
    'index_select', 'index_add', 'index_add_', 'gather', 'scatter', 'scatter_', 'scatter_add',
    'unfold_backward', 'as_strided_copy', 'index', 'index_put', 'flip',
}  # fmt: skip
# They overwrite their first argument without reading it.
OVERWRITING = {'copy_', 'fill_', 'zero_'}


def kind_of(op: torch._ops.OpOverload, inputs: list[Tensor], outputs: list[Tensor]) -> str:
    """One of `KINDS`."""
    name = op.overloadpacket.__name__
    if name in PRODUCTS:
        return 'products'
    if 'attention' in name:
        return 'attention'
    if name == '_to_copy':
        return 'casts' if outputs[0].dtype != inputs[0].dtype else 'copies'
    if name in COPIES:
        return 'copies'
    if 'layer_norm' in name or 'softmax' in name or 'var_mean' in name:
        return 'norms'
    if inputs and sum(t.numel() for t in outputs) * 8 <= max(t.numel() for t in inputs):
        return 'sums'
    return 'pointwise'


def size_of(tensor: Tensor) -> int:
    """Bytes of the memory behind a tensor: what is expanded is there once."""
    numel = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        numel *= size if stride else min(size, 1)
    return numel * tensor.element_size()


@dataclass
class Call:
    """An operator that moved something: storages and bytes of what it read and wrote."""

    name: str
    kind: str
    reads: dict[int, int]
    writes: dict[int, int]

    @property
    def bytes(self) -> int:
        return sum(self.reads.values()) + sum(self.writes.values())


class Traffic(TorchDispatchMode):
    """Records what the operators of its context read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self._alive = []  # Storages, whose addresses would else be used again.

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = op(*args, **kwargs)
        inputs = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        outputs = [t for t in tree_leaves(result) if isinstance(t, Tensor)]
        self._record(op, inputs, outputs)
        return result

    def _record(self, op, inputs: list[Tensor], outputs: list[Tensor]) -> None:
        name = op.overloadpacket.__name__
        if name.startswith(('empty', 'new_empty')):
            return
        reads, writes = ({} for _ in range(2))
        for tensors, sizes in ((inputs, reads), (outputs, writes)):
            for tensor in tensors:
                self._alive.append(tensor.untyped_storage())
                key = self._alive[-1]._cdata
                sizes[key] = sizes.get(key, 0) + size_of(tensor)
        if not op._schema.is_mutable and writes.keys() <= reads.keys():
            return  # views
        if name in OVERWRITING or op._overloadname == 'out':
            reads = {key: size for key, size in reads.items() if key not in writes}
        self.calls.append(Call(name, kind_of(op, inputs, outputs), reads, writes))

    def total(self) -> Counter:
        """Bytes by kind, where each operator runs on its own."""
        total = Counter()
        for call in self.calls:
            total[call.kind] += call.bytes
        return total

    def fused(self) -> Counter:
        """Bytes by kind, where what lies between two products, and is connected, is one kernel.

        A kernel reads what others wrote, and writes what others read; its bytes are of the kind
        'pointwise'. Two operators can be in one only if no other kernel must run between them: if
        as many kernels that stand alone lie before both.
        """
        writer: dict[int, int] = {}  # storage: call that wrote it
        level: list[int] = []
        kernel = list(range(len(self.calls)))  # call: any call of the same kernel

        def root(call: int) -> int:
            while kernel[call] != call:
                call = kernel[call]
            return call

        alone = [call.kind not in FUSIBLE for call in self.calls]
        for i, call in enumerate(self.calls):
            before = [writer[s] for s in call.reads if s in writer]
            level.append(max((level[j] + (alone[i] or alone[j]) for j in before), default=0))
            for j in before:
                if not alone[i] and not alone[j] and level[i] == level[j]:
                    kernel[root(i)] = root(j)
            writer.update(dict.fromkeys(call.writes, i))

        reads = defaultdict(dict)
        inside, outside = set(), set()  # (call, storage) that it wrote, by who reads it
        writer = {}
        for i, call in enumerate(self.calls):
            for storage, size in call.reads.items():
                j = writer.get(storage)
                if j is not None and root(j) == root(i):
                    inside.add((j, storage))
                    continue
                kept = reads[root(i)]
                kept[storage] = max(size, kept.get(storage, 0))
                outside.add((j, storage))
            writer.update(dict.fromkeys(call.writes, i))
        total = Counter()
        for i, call in enumerate(self.calls):
            kind = call.kind if alone[i] else 'pointwise'
            total[kind] += sum(reads[i].values())  # none, but of the one that stands for a kernel
            for storage, size in call.writes.items():  # what nobody reads is a result
                if (i, storage) in outside or (i, storage) not in inside:
                    total[kind] += size
        return total


def count_step(model: nn.Module, images: int, img_size: int, dtype: str = 'bfloat16') -> Traffic:
    """Forward and backward of a pretraining network on an imagined GPU.

    Args:
        model: A `MAEPlus` on any device; afterwards it is imagined.
        images: Crops of the batch.
        img_size: Their side, in pixels.
        dtype: Of autocast; 'float32' for none.
    """
    channels = model.backbone.in_channels
    with FakeTensorMode():
        imagine(model)
        crops = torch.empty(images, channels, img_size, img_size, device='cuda')
        with GPUAttention(), Traffic() as traffic:
            with autocast_on_imagined_gpu(getattr(torch, dtype)):
                loss = model.loss(crops)['loss']
            backward(loss)
    return traffic


def traffic(args: argparse.Namespace) -> dict:
    """Bytes of a training step by kind, of each variant."""
    if torch.__version__ < TorchVersion('2.10') and not torch.cuda.is_available():
        raise MachineError(
            f'torch {torch.__version__} cannot imagine the gradients of a GPU that is not there: '
            'traffic needs torch 2.10 or a GPU'
        )
    rows = []
    for variant in args.variants:
        with torch.device('meta'):
            model = design_model(args.arch, variant, args.img_size).train()
        counted = count_step(model, args.batch * args.crops, args.img_size, args.dtype)
        for form, total in (('plain', counted.total()), ('fused', counted.fused())):
            row = dict(candidate=f'{variant} {form}')
            row |= {f'{kind}_gb': total[kind] / 1e9 for kind in KINDS}
            row['outside_gb'] = sum(total[kind] for kind in OUTSIDE) / 1e9
            rows.append(row)
    return dict(
        rows=rows,
        setting=f'ViT-{args.arch.upper()}, {args.batch} images x {args.crops} crops of '
        f'{args.img_size} px, {args.dtype}, forward and backward',
    )
