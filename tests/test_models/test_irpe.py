"""iRPE against the published definition, pair by pair, and against `grid_sample`."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from adpe_mm.models.layers import irpe
from adpe_mm.models.layers.attention import Attention
from adpe_mm.models.layers.irpe import ImageRelativePosition, Perturbation, moved_weights

ALPHA, BETA, GAMMA = 1.9, 3.8, 15.2
WAYS = {'multiplied out': '_dense_bias', 'by axes': '_look_up', 'gathered': '_gather'}


@pytest.fixture(scope='module', autouse=True, params=WAYS)
def way(request):
    """Everything here holds for all ways to look up; only buckets are gathered."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param != 'multiplied out':
            patch.setattr(irpe, 'MAX_DENSE_PATCHES', 0)
        if request.param == 'by axes':
            patch.setattr(irpe, 'GATHERING_DEVICES', ())
        yield request.param


def far(size: float) -> float:
    return ALPHA + math.log(size / ALPHA) / math.log(GAMMA / ALPHA) * (BETA - ALPHA)


def bucket(offset: int) -> int:
    if abs(offset) <= ALPHA:
        return offset
    return int(math.copysign(min(round(far(abs(offset))), int(BETA)), offset))


def plain_bucket_bias(query, table, grid):
    """Every pair on its own, from the definition."""
    R, C = grid
    N = R * C
    index = torch.full((N + 1, N + 1), 49)
    for i in range(N):
        for j in range(N):
            row = bucket(i // C - j // C)
            column = bucket(i % C - j % C)
            index[i + 1, j + 1] = (row + 3) * 7 + column + 3
    return torch.einsum('bhld,dlm->bhlm', query, table[:, index])


def sampled_vectors(table, grid, shift):
    """(D, N, N) vectors of pairs by `grid_sample`, as the official code looks them up."""
    R, C = grid
    rows = torch.arange(R).repeat_interleave(C).float()
    columns = torch.arange(C).repeat(R).float()
    points = []
    for axis, place in enumerate((rows, columns)):
        offset = place[:, None] - place[None, :] + shift[axis]
        size = offset.abs()
        logarithm = ALPHA + torch.log(size.clamp(min=1e-3) / ALPHA) / math.log(GAMMA / ALPHA) * (
            BETA - ALPHA
        )
        g = torch.where(size <= ALPHA, offset, offset.sign() * logarithm)
        points.append(g.clamp(-BETA, BETA) / BETA)
    picture = table[:, :-1].reshape(1, -1, 7, 7)
    sampled = F.grid_sample(picture, torch.stack(points, -1)[None], align_corners=False)
    return sampled[0]


def plain_interpolated_bias(query, table, grid, masked=None, shift=None):
    vectors = sampled_vectors(table, grid, torch.zeros(2))
    patches = query[:, :, 1:]
    bias = torch.einsum('bhnd,dnm->bhnm', patches, vectors)
    if shift is not None:
        moved = torch.einsum('bhnd,dnm->bhnm', patches, sampled_vectors(table, grid, shift))
        bias = torch.where(masked[:, None, :, None], moved, bias)
    cls = query @ table[:, -1:]
    bias = torch.cat((cls[:, :, 1:], bias), -1)
    return torch.cat((cls[:, :, :1].expand(-1, -1, -1, bias.shape[-1]), bias), 2)


def weights(bias):
    """Attention weights: all that a constant on a whole row does not change."""
    return bias.softmax(-1)


def case(lookup, grid, dims=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rpe = ImageRelativePosition(dims, lookup)
    with torch.no_grad():
        rpe.table.copy_(torch.randn(dims, 50, generator=generator))
    query = torch.randn(2, 3, 1 + grid[0] * grid[1], dims, generator=generator)
    masked = torch.rand(2, grid[0] * grid[1], generator=generator) < 0.75
    return rpe, query, masked


def shifted(masked, shift, grid):
    """By the second of three shifts, as the weights of all blocks are made together."""
    others = torch.tensor([[0.7, -0.2], [-3.0, 5.0]])
    return Perturbation(masked, moved_weights(torch.stack((others[0], shift, others[1])), grid)[1])


@pytest.mark.parametrize('grid', [(7, 7), (3, 11), (16, 2), (1, 1)])
def test_bucket_look_up_equals_definition(grid):
    rpe, query, _ = case('bucket', grid)
    ours, plain = rpe(query, grid), plain_bucket_bias(query, rpe.table, grid)
    torch.testing.assert_close(ours[:, :, 1:], plain[:, :, 1:], atol=2e-5, rtol=1e-5)
    # The row of the cls query may differ by a constant.
    torch.testing.assert_close(weights(ours), weights(plain), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize('grid', [(7, 7), (3, 11), (16, 2)])
def test_interpolated_look_up_equals_grid_sample(grid):
    rpe, query, _ = case('interpolate', grid)
    plain = plain_interpolated_bias(query, rpe.table, grid)
    torch.testing.assert_close(weights(rpe(query, grid)), weights(plain), atol=1e-5, rtol=1e-4)


@settings(max_examples=25, deadline=None)
@given(
    shift=st.tuples(st.floats(-6, 6, width=32), st.floats(-6, 6, width=32)),
    grid=st.sampled_from([(7, 7), (4, 6), (2, 9)]),
)
def test_shifted_look_up_equals_grid_sample(shift, grid):
    rpe, query, masked = case('interpolate', grid)
    shift = torch.tensor(shift)
    ours = rpe(query, grid, shifted(masked, shift, grid))
    plain = plain_interpolated_bias(query, rpe.table, grid, masked, shift)
    torch.testing.assert_close(ours[:, :, 1:], plain[:, :, 1:], atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize('start', [(0.0, 0.0), (0.31, -0.62), (-2.4, 1.7)])
def test_gradients_of_shift_table_and_query_equal_grid_sample(start):
    grid = (5, 6)
    rpe, query, masked = case('interpolate', grid)
    rpe.double()
    probe = torch.randn(2, 3, 30, 31, dtype=torch.float64)
    ours = [query.double().requires_grad_(), torch.tensor(start, requires_grad=True)]
    bias = rpe(ours[0], grid, shifted(masked, ours[1], grid))[:, :, 1:]
    got = torch.autograd.grad((bias * probe).sum(), [*ours, rpe.table])
    plain = [query.requires_grad_(), torch.tensor(start, requires_grad=True)]
    table = rpe.table.detach().float().requires_grad_()
    bias = plain_interpolated_bias(plain[0], table, grid, masked, plain[1])[:, :, 1:]
    expected = torch.autograd.grad((bias * probe.float()).sum(), [*plain, table])
    for ours_, plain_ in zip(got, expected, strict=True):
        scale = plain_.abs().max().item()
        torch.testing.assert_close(ours_.float(), plain_, atol=1e-4 * scale, rtol=0)


@pytest.mark.parametrize('start', [(0.0, 0.0), (1e-3, -5e-4), (0.31, -0.62)])
def test_bfloat16_has_the_gradients_of_float32(start):
    """Also of shifts far below what bfloat16 can tell from the position of a patch."""
    grid = (7, 7)
    rpe, query, masked = case('interpolate', grid, dims=32)
    query = query.bfloat16()
    probe = torch.randn(2, 3, 50, 50, generator=torch.Generator().manual_seed(1))
    ours = [query.clone().requires_grad_(), torch.tensor(start, requires_grad=True)]
    with torch.autocast('cpu', torch.bfloat16):
        bias = rpe(ours[0], grid, shifted(masked, ours[1], grid))
    assert bias.dtype == torch.bfloat16
    got = torch.autograd.grad((bias.float() * probe)[:, :, 1:].sum(), [*ours, rpe.table])
    plain = [query.float().requires_grad_(), torch.tensor(start, requires_grad=True)]
    table = rpe.table.detach().clone().requires_grad_()
    plain_bias = plain_interpolated_bias(plain[0], table, grid, masked, plain[1])
    expected = torch.autograd.grad((plain_bias * probe)[:, :, 1:].sum(), [*plain, table])
    pairs = dict(
        bias=(bias[:, :, 1:], plain_bias[:, :, 1:]),
        query=(got[0], expected[0]),
        shift=(got[1], expected[1]),
        table=(got[2], expected[2]),
    )
    for name, (ours_, plain_) in pairs.items():
        error = (ours_.float() - plain_).norm() / plain_.norm()
        # A gradient of two numbers is a sum of thousands with random signs.
        assert error < (0.08 if name == 'shift' else 0.01), name


@pytest.mark.parametrize('lookup', ['bucket', 'interpolate'])
def test_delta_equals_another_table_for_masked_queries(lookup):
    grid = (4, 5)
    rpe, query, masked = case(lookup, grid)
    delta = torch.randn(8, 50)
    ours = rpe(query, grid, Perturbation(masked, delta=delta))
    before = rpe(query, grid)
    with torch.no_grad():
        rpe.table.add_(delta)
    after = rpe(query, grid)
    rows = masked[:, None, :, None]
    torch.testing.assert_close(
        ours[:, :, 1:], torch.where(rows, after[:, :, 1:], before[:, :, 1:]), atol=1e-4, rtol=1e-4
    )


def test_zero_shift_is_the_baseline():
    grid = (7, 7)
    rpe, query, masked = case('interpolate', grid)
    bias = rpe(query, grid, shifted(masked, torch.zeros(2), grid))
    torch.testing.assert_close(bias, rpe(query, grid), atol=1e-6, rtol=1e-6)


def test_all_ways_are_taken(way, monkeypatch):
    rpe, query, _ = case('bucket', (3, 3))
    taken = []
    for name in WAYS.values():
        method = getattr(rpe, name)
        monkeypatch.setattr(rpe, name, lambda *a, f=method, n=name: taken.append(n) or f(*a))
    rpe(query, (3, 3))
    assert taken == [WAYS[way]]


def test_works_without_cls_and_under_autocast():
    grid = (4, 4)
    rpe, query, _ = case('interpolate', grid)
    whole = rpe(query, grid)
    torch.testing.assert_close(rpe(query[:, :, 1:], grid), whole[:, :, 1:, 1:])
    with torch.autocast('cpu', torch.bfloat16):
        half = rpe(query.bfloat16(), grid)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), whole, atol=0.15, rtol=0.05)


def test_cached_weights_of_inference_mode_still_train():
    rpe, query, _ = case('bucket', (3, 13))
    with torch.inference_mode():
        rpe(query, (3, 13))
    rpe(query, (3, 13)).sum().backward()
    assert rpe.table.grad.abs().sum() > 0


def test_attention_equals_plain_softmax():
    grid = (3, 4)
    attention = Attention(24, 3, rpe_lookup='bucket')
    torch.nn.init.normal_(attention.rpe.table)
    x = torch.randn(2, 13, 24)
    q, k, v = attention.qkv(x).reshape(2, 13, 3, 3, 8).permute(2, 0, 3, 1, 4)
    logits = (q * 8**-0.5) @ k.transpose(-1, -2)
    logits = logits + plain_bucket_bias(q * 8**-0.5, attention.rpe.table, grid)
    plain = attention.proj((logits.softmax(-1) @ v).transpose(1, 2).reshape(2, 13, 24))
    torch.testing.assert_close(attention(x, grid), plain, atol=1e-5, rtol=1e-4)


def test_mistakes():
    with pytest.raises(ValueError, match='rpe_lookup'):
        ImageRelativePosition(8, 'nearest')
    rpe, query, masked = case('bucket', (2, 2))
    with pytest.raises(ValueError, match="rpe_lookup='interpolate'"):
        rpe(query, (2, 2), shifted(masked, torch.zeros(2), (2, 2)))
    with pytest.raises(ValueError, match='heads'):
        Attention(10, 3)
