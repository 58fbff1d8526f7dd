"""What PyTorch's kernels of attention are given on a GPU, and that it changes no value.

Widths and strides are looked at on a GPU that need not be there; values on the CPU, made to align
as a GPU does.
"""

from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode

from adpe_mm.evaluation.imagined_gpu import autocast_on_imagined_gpu, imagine
from adpe_mm.models.layers import Attention, Perturbation, irpe_kernels, place_products
from adpe_mm.models.layers.place_products import PlaceProducts, aligned
from tests.helpers import ProductsOfOneDtype, needs_imagined_gpu

BUCKET = dict(position='rpe', rpe_lookup='bucket')
INTERPOLATE = dict(position='rpe', rpe_lookup='interpolate')
# Settings of the layer, grid of patches, whether cls is there, what is perturbed.
CASES = {
    'absolute, 50 tokens': ({}, (7, 7), True, None),
    'bucket, 50': (BUCKET, (7, 7), True, None),
    'bucket, 50, embedding': (BUCKET, (7, 7), True, 'delta'),
    'interpolate, 50, coordinate': (INTERPOLATE, (7, 7), True, 'shift'),
    'bucket, windows of 196': (BUCKET, (14, 14), False, None),
    'interpolate, 197, coordinate': (INTERPOLATE, (14, 14), True, 'shift'),
    'bucket, 325, by axes': (BUCKET, (18, 18), True, None),
    'interpolate, 325, by rows': (INTERPOLATE, (18, 18), True, 'shift'),
    'bucket, 324, by rows': (BUCKET, (18, 18), False, None),
    'decomposed, windows of 196': (dict(decomposed_rpe_size=(14, 14)), (14, 14), False, None),
    'decomposed, 3 x 6': (dict(decomposed_rpe_size=(3, 6)), (3, 6), False, None),
    'BEiT, 196': (dict(rel_pos_bias_size=(14, 14)), (14, 14), False, None),
    'BEiT, 197': (dict(rel_pos_bias_size=(14, 14)), (14, 14), True, None),
}


@pytest.fixture(params=CASES)
def case(request, monkeypatch):
    """A layer of 2 heads of 64, tokens of 3 images, their grid, and a perturbation."""
    settings, grid, cls, kind = CASES[request.param]
    if 'by rows' in request.param:
        monkeypatch.setattr(irpe_kernels, 'MAX_PAIRS', 1000)
        monkeypatch.setattr(irpe_kernels, 'PAIRS_AT_A_TIME', 5 * 18 * 324)
    torch.manual_seed(0)
    layer = Attention(128, 2, **settings)
    for param in layer.parameters():
        nn.init.normal_(param, std=0.2)
    N = grid[0] * grid[1]
    masked = torch.rand(3, N) < 0.75
    perturbation = {
        None: None,
        'shift': Perturbation(masked, shift=torch.tensor([0.4, -1.3])),
        'delta': Perturbation(masked, delta=torch.randn(64, 50)),
    }[kind]
    return layer, torch.randn(3, N + cls, 128), grid, perturbation


class Recorder(TorchFunctionMode):
    """Keeps what `scaled_dot_product_attention` is called with."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is F.scaled_dot_product_attention:
            q, k, v, bias = (*args, None)[:4]
            self.calls.append((q, k, v, bias))
            return q.new_empty(*q.shape[:3], v.shape[3])
        return func(*args, **(kwargs or {}))


def imagined(perturbation):
    if perturbation is None:
        return None
    return perturbation._replace(
        **{
            name: torch.empty(value.shape, dtype=value.dtype, device='cuda')
            for name, value in perturbation._asdict().items()
            if value is not None
        }
    )


@needs_imagined_gpu
@pytest.mark.parametrize('learns', [True, False])
def test_every_kernel_may_take_it(case, learns):
    layer, x, grid, perturbation = case
    gradients = nullcontext() if learns else torch.no_grad()
    with FakeTensorMode(), gradients, ProductsOfOneDtype(), Recorder() as recorder:
        x = torch.empty(x.shape, device='cuda')
        with autocast_on_imagined_gpu(torch.bfloat16):
            imagine(layer)(x, grid, imagined(perturbation))
    assert recorder.calls
    for q, k, v, bias in recorder.calls:
        assert q.dtype == k.dtype == v.dtype == torch.bfloat16 and min(q.shape) > 0
        for tensor in (q, k, v):  # widths, rows and their beginnings at multiples of 16 bytes
            assert tensor.shape[-1] % 8 == 0 and tensor.stride(-1) == 1
            assert tensor.storage_offset() % 8 == 0
            assert not any(stride % 8 for stride in tensor.stride()[:-1])
        if bias is not None:
            assert bias.shape == (*q.shape[:3], k.shape[2]) and bias.dtype == q.dtype
            assert bias.stride(-1) == 1 and bias.storage_offset() % 8 == 0
            assert not any(stride % 8 for stride in bias.stride()[:-1])
            assert bias.requires_grad == learns


@needs_imagined_gpu
def test_a_bias_of_all_images_is_not_copied_for_each():
    with FakeTensorMode(), Recorder() as recorder:
        layer = imagine(Attention(128, 2, rel_pos_bias_size=(14, 14)))
        layer(torch.empty(64, 197, 128, device='cuda'), (14, 14))
    ((*_, bias),) = recorder.calls
    assert bias.stride() == (0, 197 * 200, 200, 1)


def plain(layer, x, grid, perturbation):
    """Attention with its matrix, and the term of every pair from the definitions."""
    q, k, v = layer.qkv(x).unflatten(-1, (3, 2, 64)).permute(2, 0, 3, 1, 4)
    scaled = q / 8
    logits = scaled @ k.transpose(-1, -2)
    if layer.rpe is not None:
        logits = logits + layer.rpe(scaled, grid, perturbation)
    (R, C), N = grid, grid[0] * grid[1]
    place = torch.cartesian_prod(torch.arange(R), torch.arange(C))
    offset = place[:, None] - place[None, :] + torch.tensor([R - 1, C - 1])
    if layer.decomposed_rpe is not None:
        tables = layer.decomposed_rpe.rel_pos_h, layer.decomposed_rpe.rel_pos_w
        for axis, table in enumerate(tables):
            logits = logits + torch.einsum('bhid,ijd->bhij', q, table[offset[..., axis]])
    if layer.rel_pos_bias is not None:
        table = layer.rel_pos_bias.table
        index = (2 * C - 1) * offset[..., 0] + offset[..., 1]
        if x.shape[1] > N:  # rows of the table for cls as query, as key, and with itself
            index = F.pad(index, (1, 0, 1, 0))
            index[0], index[:, 0], index[0, 0] = len(table) - 3, len(table) - 2, len(table) - 1
        logits = logits + table[index].permute(2, 0, 1)
    return layer.proj((logits.softmax(-1) @ v).transpose(1, 2).flatten(2))


def test_values_and_gradients_are_those_of_the_definitions(case, monkeypatch):
    monkeypatch.setitem(place_products.ALIGNMENT_ON, 'cpu', 8)
    layer, x, grid, perturbation = case
    layer, x = layer.double(), x.double().requires_grad_()
    if perturbation is not None:
        perturbation = perturbation._replace(
            **{
                name: getattr(perturbation, name).double().requires_grad_()
                for name in ('shift', 'delta')
                if getattr(perturbation, name) is not None
            }
        )
    leaves = [x, *layer.parameters()]
    leaves += [t for t in perturbation or () if t is not None and t.requires_grad]
    direction = torch.randn(x.shape, dtype=x.dtype)
    found, expected = (
        [out, *torch.autograd.grad((out * direction).sum(), leaves)]
        for out in (layer(x, grid, perturbation), plain(layer, x, grid, perturbation))
    )
    for ours, defined in zip(found, expected, strict=True):
        scale = defined.abs().max().item()
        # Offsets, and with them weights of buckets, are in float32.
        torch.testing.assert_close(ours, defined, atol=1e-5 * scale, rtol=0)


@pytest.mark.parametrize('alignment', [1, 8])
@pytest.mark.parametrize('adversary', [False, True])
def test_gradients_written_by_hand(adversary, alignment, monkeypatch):
    monkeypatch.setitem(place_products.ALIGNMENT_ON, 'cpu', alignment)
    query = torch.randn(2, 3, 5, 4, dtype=torch.float64).permute(2, 0, 1, 3)  # (L, B, H, D)
    masked = torch.tensor([[1, 0], [0, 0], [1, 1], [0, 1], [1, 0]]).bool() if adversary else None
    keys = torch.randn(5, 8 if adversary else 4, 5, dtype=torch.float64)
    out = PlaceProducts.apply(query, masked, keys)
    assert out.shape == (5, 6, 5) and out.stride(1) == (8 if alignment == 8 else 5)
    leaves = query.requires_grad_(), keys.requires_grad_()
    assert torch.autograd.gradcheck(lambda q, k: PlaceProducts.apply(q, masked, k), leaves)


@pytest.mark.parametrize(
    'bias, copied',
    [
        (torch.randn(2, 5, 8), False),
        (torch.randn(2, 5, 9), True),
        (torch.randn(2, 5, 16)[..., :9], False),
        (torch.randn(2, 5, 17)[..., :16], True),
        (torch.randn(1, 5, 8).expand(4, -1, -1), False),
        (torch.randn(2, 8, 8).transpose(1, 2), True),
    ],
)
def test_only_what_is_unaligned_is_copied(bias, copied, monkeypatch):
    monkeypatch.setitem(place_products.ALIGNMENT_ON, 'cpu', 8)
    found = aligned(bias)
    assert torch.equal(found, bias) and (found.data_ptr() != bias.data_ptr()) == copied
    assert found.stride(-1) == 1 and not any(stride % 8 for stride in found.stride()[:-1])
