"""Training steps, attention and memory of this package against a plain baseline.

The baselines do what the official code does, in plain calls of torch
(adpe_mm/models/selfsup/reference.py). A ratio is the baseline's time over ours.
"""

import argparse
import logging
import resource
from contextlib import suppress
from functools import partial
from itertools import product
from multiprocessing import get_context
from multiprocessing.connection import Connection

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from adpe_mm.engine import LayerDecayOptimWrapperConstructor
from adpe_mm.engine.hooks.compile import compile_blocks
from adpe_mm.launch import keep_freed_memory
from adpe_mm.models import AdPEViT
from adpe_mm.models.layers import Attention, irpe_kernels
from adpe_mm.models.selfsup import reference
from adpe_mm.registry import MODELS

from .timing import alternate, matmul_peak, medians, ratio, synchronize

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
VARIANTS = {
    'ape': ('ape', None),
    'rpe': ('rpe', None),
    'ape-embed': ('ape', 'embedding'),
    'ape-coord': ('ape', 'coordinate'),
    'rpe-embed': ('rpe', 'embedding'),
    'rpe-coord': ('rpe', 'coordinate'),
}


def design_model(arch: str, variant: str, img_size: int) -> torch.nn.Module:
    """A pretraining network of the full recipe, before its weights are drawn."""
    position, mode = VARIANTS[variant]
    lookup = 'interpolate' if variant == 'rpe-coord' else 'bucket'
    return MODELS.build(
        dict(
            type='adpe_mm.MAEPlus',
            backbone=dict(
                type='adpe_mm.AdPEPretrainViT',
                arch=arch,
                img_size=img_size,
                position=position,
                rpe_lookup=lookup,
            ),
            neck=dict(type='adpe_mm.AdPEDecoder', embed_dims=512, num_layers=8, num_heads=16),
            adversary=mode and dict(type='adpe_mm.AdversarialPosition', mode=mode),
        )
    )


def build_model(arch: str, variant: str, img_size: int) -> torch.nn.Module:
    """The network of `design_model` on the device, ready to be trained."""
    model = design_model(arch, variant, img_size)
    torch.manual_seed(0)
    model.init_weights()
    return model.to(DEVICE).train()


class OurStep:
    """A step as tools/train.py does it."""

    def __init__(self, model, images, dtype: str, compiled: bool = False) -> None:
        self.model, self.images = model, images
        wrapper = dict(
            type='adpe_mm.AmpOptimWrapper',
            dtype=dtype,
            optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.95), fused=True),
        )
        self.optimizer = LayerDecayOptimWrapperConstructor(wrapper)(model)
        if compiled:
            compile_blocks(model)

    def __call__(self) -> None:
        with self.optimizer.optim_context(self.model):
            loss = self.model.loss(self.images)['loss']
        self.optimizer.update_params(loss)


class PlainStep:
    """A step of the plain formulation: one group per parameter, neither fused nor foreach."""

    def __init__(self, model, images, dtype: str) -> None:
        self.model, self.images, self.dtype = model, images, getattr(torch, dtype)
        groups = [dict(params=[p]) for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            groups, lr=1e-4, betas=(0.9, 0.95), foreach=False, fused=False
        )
        self.scaler = torch.amp.GradScaler(DEVICE, enabled=dtype == 'float16')
        p = model.backbone.patch_size
        self.num_patches = (images.shape[-1] // p) ** 2

    def loss(self) -> torch.Tensor:
        noise = torch.rand(len(self.images), self.num_patches, device=self.images.device)
        return reference.plain_loss(self.model, self.images, noise)

    def __call__(self) -> None:
        self.optimizer.zero_grad()
        with torch.autocast(DEVICE, self.dtype, enabled=self.dtype != torch.float32):
            loss = self.loss()
        loss.item()  # the official loop checks it for infinities at every step
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()


def serve_step(pipe: Connection, kind: str, variant: str, dtype: str, args) -> None:
    """Take a step whenever the other end asks for one."""
    logging.disable(logging.INFO)
    if kind != 'plain':
        keep_freed_memory()
    torch.manual_seed(0)
    images = torch.randn(args.batch * args.crops, 3, args.img_size, args.img_size, device=DEVICE)
    model = build_model(args.arch, variant, args.img_size)
    take = PlainStep(model, images, dtype)
    if kind != 'plain':
        take = OurStep(model, images, dtype, compiled=kind == 'compiled')
    with suppress(EOFError):  # of recv, when the benchmark has ended
        while pipe.recv():
            take()
            synchronize()
            pipe.send(True)


class StepElsewhere:
    """A training in a process of its own, with memory as it has in its own training."""

    def __init__(self, *what) -> None:
        context = get_context('spawn')
        self.pipe, other = context.Pipe()
        context.Process(target=serve_step, args=(other, *what), daemon=True).start()

    def __call__(self) -> None:
        self.pipe.send(True)
        self.pipe.recv()


def step(args: argparse.Namespace) -> dict:
    """Whole training steps."""
    baseline = args.baseline_dtype or ('float16' if DEVICE == 'cuda' else 'float32')
    peaks = {d: matmul_peak(getattr(torch, d), DEVICE) for d in {*args.dtypes, baseline}}
    kinds = ['ours', 'compiled'] if args.compile else ['ours']
    candidates = {}
    for variant in args.variants:
        for kind, dtype in [*product(kinds, args.dtypes), ('plain', baseline)]:
            name = f'{variant} {kind} {dtype}'
            candidates[name] = StepElsewhere(kind, variant, dtype, args)
    timings = alternate(candidates, args.repeats, args.warmup, args.inner)
    total = count_operations(args)
    rows = []
    for name, seconds in medians(timings).items():
        variant, kind, dtype = name.split()
        row = dict(
            candidate=name,
            milliseconds=1e3 * seconds,
            images_per_second=args.batch / seconds,
            ratio_to_plain=ratio(timings, name, f'{variant} plain {baseline}'),
            share_of_peak=total / seconds / peaks[dtype],
        )
        first = f'{args.variants[0]} {kind} {dtype}'
        row[f'time_over_{args.variants[0]}'] = ratio(timings, first, name)
        rows.append(row)
    return dict(
        rows=rows,
        gflop_per_image=total / args.batch / 1e9,
        peak_tflops={d: p / 1e12 for d, p in peaks.items()},
        setting=f'ViT-{args.arch.upper()}, {args.batch} images x {args.crops} crops of '
        f'{args.img_size} px',
    )


def count_operations(args: argparse.Namespace) -> int:
    """Of a step of the first variant, which has no other products than all of them."""
    images = torch.randn(args.crops, 3, args.img_size, args.img_size, device=DEVICE)
    model = build_model(args.arch, args.variants[0], args.img_size)
    with FlopCounterMode(display=False) as counter:
        PlainStep(model, images, 'float32').loss().backward()
    return counter.get_total_flops() * args.batch


def attention(args: argparse.Namespace) -> dict:
    """One layer, forward and backward."""
    keep_freed_memory()
    dtype = getattr(torch, args.dtype)
    rows = []
    for side in args.sides:
        tokens, batch = side * side + 1, max(1, args.tokens // (side * side))
        x = torch.randn(batch, tokens, 64 * args.heads, device=DEVICE, requires_grad=True)
        layers = {
            'none': Attention(64 * args.heads, args.heads),
            'bucket': Attention(64 * args.heads, args.heads, 'rpe', 'bucket'),
            'interpolate': Attention(64 * args.heads, args.heads, 'rpe', 'interpolate'),
        }

        candidates = {}
        for name, layer in layers.items():
            layer.to(DEVICE)
            candidates[f'ours {name}'] = partial(forward_backward, layer, x, (side, side), dtype)
            if DEVICE == 'cpu':
                kernel = partial(by_kernel, layer)
                candidates[f'kernel {name}'] = partial(
                    forward_backward, kernel, x, (side, side), dtype
                )
            plain = partial(reference.attention, layer)
            candidates[f'plain {name}'] = partial(forward_backward, plain, x, (side, side), dtype)
        if side > 32:  # (D, N, N): gigabytes
            del candidates['plain interpolate']
        timings = alternate(candidates, args.repeats, args.warmup)
        for name, seconds in medians(timings).items():
            plain = f'plain {name.split()[1]}'
            rows.append(
                dict(
                    tokens=tokens,
                    batch=batch,
                    candidate=name,
                    milliseconds=1e3 * seconds,
                    ratio_to_plain=ratio(timings, name, plain) if plain in timings else None,
                    over_no_position=ratio(timings, 'ours none', name),
                )
            )
    return dict(rows=rows, setting=f'{args.heads} heads of 64, {args.dtype}')


def by_kernel(layer: Attention, x: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Ours with PyTorch's kernel where products of matrices would be taken on a CPU."""
    before, irpe_kernels.MAX_PRODUCT_TOKENS = irpe_kernels.MAX_PRODUCT_TOKENS, 0
    try:
        return layer(x, grid)
    finally:
        irpe_kernels.MAX_PRODUCT_TOKENS = before


def forward_backward(function, x: torch.Tensor, grid, dtype: torch.dtype) -> None:
    with torch.autocast(DEVICE, dtype, enabled=dtype != torch.float32):
        out = function(x, grid)
    out.float().square().mean().backward()


def additive_mask_attention(layer: Attention, x: torch.Tensor, side: int) -> torch.Tensor:
    """SDPA with one additive (heads, N, N) mask that is given, and learnt."""
    B, L, E = x.shape
    q, k, v = layer.qkv(x).reshape(B, L, 3, layer.num_heads, -1).permute(2, 0, 3, 1, 4)
    mask = torch.zeros(1, layer.num_heads, L, L, device=x.device, dtype=q.dtype)
    out = F.scaled_dot_product_attention(q, k, v, mask.requires_grad_())
    return layer.proj(out.transpose(1, 2).reshape(B, L, E))


def vitdet(position: str, with_cp: bool) -> AdPEViT:
    return AdPEViT(
        arch='b',
        img_size=1024,
        pretrain_img_size=224,
        position=position,
        rpe_lookup='bucket',
        decomposed_rpe=position == 'ape',
        out_type='featmap',
        final_norm=False,
        with_cls_token=False,
        window_size=14,
        with_cp=with_cp,
    )


MEMORY_CASES = {
    'attention, no position': ('attention', None),
    'attention, SDPA with an additive mask': ('mask', None),
    'attention, iRPE bucket': ('attention', 'bucket'),
    'attention, iRPE interpolate': ('attention', 'interpolate'),
    'attention, plain iRPE bucket': ('plain', 'bucket'),
    'ViTDet-B 1024 px, absolute and decomposed': ('vitdet', 'ape', False),
    'ViTDet-B 1024 px, iRPE': ('vitdet', 'rpe', False),
    'ViTDet-B 1024 px, absolute, checkpointing': ('vitdet', 'ape', True),
    'ViTDet-B 1024 px, iRPE, checkpointing': ('vitdet', 'rpe', True),
}


def measure_memory(case: str, dtype: str) -> int:
    """Peak bytes that forward and backward of one image need beyond weights and input."""
    kind, *rest = MEMORY_CASES[case]
    if kind == 'vitdet':
        module = vitdet(*rest).to(DEVICE).train()
        x = torch.randn(1, 3, 1024, 1024, device=DEVICE)

        def forward():
            return module(x)[0]
    else:
        module = Attention(768, 12, 'rpe' if rest[0] else 'ape', rest[0]).to(DEVICE)
        x = torch.randn(1, 4096, 768, device=DEVICE, requires_grad=True)
        functions = dict(
            attention=lambda: module(x, (64, 64)),
            mask=lambda: additive_mask_attention(module, x, 64),
            plain=lambda: reference.attention(module, x, (64, 64)),
        )
        forward = functions[kind]
    for param in module.parameters():
        param.grad = torch.zeros_like(param)
    if x.requires_grad:
        x.grad = torch.zeros_like(x)
    if DEVICE == 'cuda':
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        before = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with torch.autocast(DEVICE, getattr(torch, dtype), enabled=dtype != 'float32'):
        out = forward()
    out.float().square().mean().backward()
    if DEVICE == 'cuda':
        return torch.cuda.max_memory_allocated() - before
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before


def memory(args: argparse.Namespace) -> dict:
    """Each case in a process of its own: on a CPU only a process has a peak."""
    rows = []
    for case in MEMORY_CASES:
        with get_context('spawn').Pool(1) as process:
            peak = process.apply(measure_memory, (case, args.dtype))
        rows.append(dict(case=case, megabytes=peak / 2**20))
    return dict(rows=rows, setting=f'1 image, forward and backward, {args.dtype}')
