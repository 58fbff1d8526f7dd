"""Whether the device computes what the CPU does, and by which kernels."""

import copy
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from adpe_mm.engine import LayerDecayOptimWrapperConstructor
from adpe_mm.models.layers import Attention
from adpe_mm.models.selfsup import reference
from adpe_mm.registry import MODELS

from ..speed import VARIANTS
from .rows import Row, verdict

STEPS = 10
# Largest relative difference of ten losses from the CPU's in float32, by precision. In float32
# kernels differ in the order of their sums; the others keep 8 and 11 bits of each product.
TOLERANCES = dict(float32=1e-3, bfloat16=3e-2, float16=1e-2)


def small_model(variant: str) -> nn.Module:
    """A pretraining network of a fraction of a second, whose relative positions count."""
    position, mode = VARIANTS[variant]
    adversary = mode and dict(type='adpe_mm.AdversarialPosition', mode=mode, norm='linf', eps=0.5)
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type='adpe_mm.MAEPlus',
            backbone=dict(
                type='adpe_mm.AdPEPretrainViT',
                arch=dict(embed_dims=128, num_layers=3, num_heads=2, feedforward_channels=512),
                img_size=112,
                patch_size=16,
                position=position,
                rpe_lookup='interpolate' if variant == 'rpe-coord' else 'bucket',
            ),
            neck=dict(type='adpe_mm.AdPEDecoder', embed_dims=64, num_layers=1, num_heads=1),
            adversary=adversary,
        )
    )
    model.init_weights()
    for layer in [*model.backbone.layers, *model.neck.layers]:
        if layer.attn.rpe is not None:
            nn.init.normal_(layer.attn.rpe.table, std=0.1)
    return model.train()


def train(model: nn.Module, device: str, dtype: str, loss_scale: float | str = 'dynamic') -> dict:
    """Ten steps on fixed crops and masks.

    Returns:
        Losses, and how many steps a loss scale left out.
    """
    model = copy.deepcopy(model).to(device)
    options = dict(loss_scale=loss_scale) if dtype == 'float16' else {}
    wrapper = LayerDecayOptimWrapperConstructor(
        dict(
            type='adpe_mm.AmpOptimWrapper',
            dtype=dtype,
            optimizer=dict(type='SGD', lr=0.05),
            **options,
        )
    )(model)
    generator = torch.Generator().manual_seed(1)
    losses, skipped = [], 0
    for _ in range(STEPS):
        images = torch.randn(8, 3, 112, 112, generator=generator).to(device)
        noise = torch.rand(8, 49, generator=generator).to(device)
        before = model.neck.predict.weight.detach().clone()
        with wrapper.optim_context(model):
            loss = model.loss(images, noise=noise)['loss']
        wrapper.update_params(loss)
        model.adversary.project()
        skipped += int(torch.equal(before, model.neck.predict.weight))
        losses.append(loss.detach().float())
    return dict(losses=torch.stack(losses).cpu(), skipped=skipped)


def check_steps(device: str) -> Iterator[Row]:
    """Ten steps of each variant and precision beside the CPU's in float32."""
    dtypes = ['float32', 'bfloat16'] + ['float16'] * (device == 'cuda')
    for variant in VARIANTS:
        model = small_model(variant)
        expected = train(model, 'cpu', 'float32')['losses']
        for dtype in dtypes:
            with torch.backends.cudnn.flags(allow_tf32=False):  # which convolutions have by default
                found = train(model, device, dtype, loss_scale=1024.0)
            off = ((found['losses'] - expected) / expected).abs().max().item()
            right = off <= TOLERANCES[dtype] and found['skipped'] == 0
            yield verdict('steps', f'{variant}, {dtype}', right, f'losses differ by {off:.1e}')
    if device != 'cuda':
        yield Row('steps', 'float16', 'skipped', 'needs a GPU')
        return
    # A scale beyond float16's range: the first steps overflow and are left out, the next train.
    overflow = dict(init_scale=2.0**40, growth_interval=10**6)
    found = train(small_model('ape'), device, 'float16', overflow)
    right = 0 < found['skipped'] < STEPS and bool(found['losses'].isfinite().all())
    yield verdict('steps', 'float16, overflow', right, f'{found["skipped"]} steps left out')


# Name: settings of the layer, sides of the grid of patches, whether cls is there.
LAYERS = {
    'absolute, 50 tokens': ({}, (7, 7), True),
    'absolute, 197 tokens': ({}, (14, 14), True),
    'iRPE buckets, 50 tokens': (dict(position='rpe', rpe_lookup='bucket'), (7, 7), True),
    'iRPE interpolated, 50 tokens': (dict(position='rpe', rpe_lookup='interpolate'), (7, 7), True),
    'iRPE interpolated, 197 tokens': (
        dict(position='rpe', rpe_lookup='interpolate'), (14, 14), True,
    ),
    'iRPE interpolated, 1024 patches': (
        dict(position='rpe', rpe_lookup='interpolate'), (32, 32), False,
    ),
    'decomposed, windows of 14': (dict(decomposed_rpe_size=(14, 14)), (14, 14), False),
    'decomposed, 1024 patches': (dict(decomposed_rpe_size=(32, 32)), (32, 32), False),
    'BEiT bias, 1024 patches': (dict(rel_pos_bias_size=(32, 32)), (32, 32), True),
}  # fmt: skip
# Kernels of scaled_dot_product_attention, by a part of their operator's name.
KERNELS = {
    '_flash_attention_forward': 'flash',
    '_efficient_attention_forward': 'memory-efficient',
    '_cudnn_attention_forward': 'cuDNN',
    '_scaled_dot_product_attention_math': 'mathematics',
    '_scaled_dot_product_flash_attention_for_cpu': 'flash (CPU)',
}


def kernels_of(prof: profile) -> str:
    """Which kernels of attention ran."""
    ran = {event.key.removeprefix('aten::') for event in prof.key_averages()}
    return ', '.join(name for part, name in KERNELS.items() if part in ran) or 'products'


def gradients(layer: Attention, x: Tensor, grid: tuple[int, int], forward) -> list[Tensor]:
    """Output, and the gradients of the input and of every parameter."""
    x = x.detach().requires_grad_()
    out = forward(x, grid)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(2)).to(out)
    params = [param for param in layer.parameters() if param.requires_grad]
    grads = torch.autograd.grad((out * weight).sum(), [x, *params])
    return [out, *grads]


def largest_error(found: list[Tensor], expected: list[Tensor]) -> float:
    """Of output and gradients, relative to the largest value of each."""
    return max(
        ((f.double().cpu() - e).abs().max() / e.abs().max()).item()
        for f, e in zip(found, expected, strict=True)
    )


def check_kernels(device: str, batch: int = 4) -> Iterator[Row]:
    """Which kernel attends in each case, and its output and gradients beside float64 products.

    The error is relative to the largest value. That of the plain formulation in the same precision
    is what the precision itself costs; ours may be four times it.
    """
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device == 'cuda')
    for name, (settings, grid, cls) in LAYERS.items():
        torch.manual_seed(0)
        layer = Attention(128, 2, **settings)
        for param in layer.parameters():
            nn.init.normal_(param, std=0.1)
        x = torch.randn(batch, grid[0] * grid[1] + cls, 128)
        exact = copy.deepcopy(layer).double()
        expected = gradients(exact, x.double(), grid, exact)
        layer, x = layer.to(device), x.to(device)
        with torch.autocast(device, torch.bfloat16), profile(activities=activities) as prof:
            found = gradients(layer, x, grid, layer)
        error = largest_error(found, expected)
        allowed = 0.05  # a dozen roundings of 2 ** -8
        if layer.rpe is not None or not settings:
            with torch.autocast(device, torch.bfloat16):
                plain = gradients(layer, x, grid, partial(reference.attention, layer))
            allowed = 4 * largest_error(plain, expected)
        value = f'{kernels_of(prof)}; off by {error:.1e}, {allowed:.1e} allowed'
        yield verdict('attention', name, error <= allowed, value)


def check_waiting(device: str) -> Iterator[Row]:
    """Whether a training step waits for the device, between two logs."""
    if device != 'cuda':
        yield Row('waiting', 'training steps', 'skipped', 'needs a GPU')
        return
    for variant in VARIANTS:
        model = small_model(variant).to(device)
        wrapper = LayerDecayOptimWrapperConstructor(
            dict(
                type='adpe_mm.AmpOptimWrapper',
                optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.95), fused=True),
            )
        )(model)
        images = torch.randn(8, 3, 112, 112, device=device)
        found = 'no synchronisation in five steps'
        for step in range(7):
            if step >= 2:  # the first steps allocate, and choose kernels
                torch.cuda.set_sync_debug_mode('error')
            try:
                with wrapper.optim_context(model):
                    loss = model.loss(images)['loss']
                wrapper.update_params(loss)
                model.adversary.project()
            except RuntimeError as error:
                found = str(error).splitlines()[0]
                break
            finally:
                torch.cuda.set_sync_debug_mode('default')
        yield verdict('waiting', variant, found.startswith('no sync'), found)
