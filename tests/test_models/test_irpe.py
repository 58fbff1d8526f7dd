"""iRPE's definition against the papers, pair by pair; every fast way against the definition."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adpe_mm.models.layers import Attention, ImageRelativePosition, Perturbation, irpe_kernels
from adpe_mm.models.layers.irpe_kernels import moved_weights, position_term

ALPHA, BETA, GAMMA = 1.9, 3.8, 15.2
WAYS = {'multiplied out': 'multiplied_out', 'by axes': 'by_axes', 'gathered': 'gathered'}


@pytest.fixture(scope='module', params=WAYS)
def way(request):
    """Makes `choose` take a way, at any size; only buckets are gathered."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param != 'multiplied out':
            patch.setattr(irpe_kernels, 'MAX_DENSE_PATCHES', 0)
        if request.param == 'by axes':
            patch.setattr(irpe_kernels, 'GATHERING_DEVICES', ())
        yield request.param


def case(lookup, grid, dims=8, seed=0):
    """An iRPE with a random table, queries with cls in front, and a mask."""
    generator = torch.Generator().manual_seed(seed)
    rpe = ImageRelativePosition(dims, lookup)
    with torch.no_grad():
        rpe.table.copy_(torch.randn(dims, 50, generator=generator))
    query = torch.randn(2, 3, 1 + grid[0] * grid[1], dims, generator=generator)
    masked = torch.rand(2, grid[0] * grid[1], generator=generator) < 0.75
    return rpe, query, masked


# The definition


def distance(offset: float) -> float:
    """g without rounding."""
    if abs(offset) <= ALPHA:
        return offset
    far = ALPHA + math.log(abs(offset) / ALPHA) / math.log(GAMMA / ALPHA) * (BETA - ALPHA)
    return math.copysign(far, offset)


def rounded_vector(table, row: float, column: float):
    """(D,) vector of the bucket of an offset."""
    i, j = (max(-3, min(3, round(distance(offset)))) + 3 for offset in (row, column))
    return table[:, 7 * i + j]


def interpolated_vector(table, row: float, column: float):
    """(D,) vector between the centres of the buckets; rows are read along the second axis."""
    buckets = table[:, :49].reshape(-1, 7, 7)
    places = [
        ((max(-BETA, min(BETA, distance(offset))) / BETA + 1) * 7 - 1) / 2
        for offset in (column, row)
    ]
    vector = torch.zeros(len(table))
    for i in range(7):
        for j in range(7):
            weights = [max(0.0, 1 - abs(p - k)) for p, k in zip(places, (i, j), strict=True)]
            vector += weights[0] * weights[1] * buckets[:, i, j]
    return vector


VECTORS = dict(bucket=rounded_vector, interpolate=interpolated_vector)


@pytest.mark.parametrize('grid', [(5, 4), (2, 9), (1, 1)])
@pytest.mark.parametrize('lookup', VECTORS)
@pytest.mark.parametrize('perturbed', [None, 'shift', 'delta'])
def test_definition_pair_by_pair(lookup, grid, perturbed):
    rpe, query, masked = case(lookup, grid)
    shift, delta = torch.tensor([0.31, -1.7]), torch.randn(8, 50)
    perturbation = {
        None: None,
        'shift': Perturbation(masked, shift=shift),
        'delta': Perturbation(masked, delta=delta),
    }[perturbed]
    expected = torch.zeros(2, 3, query.shape[2], query.shape[2])
    places = [None] + [(r, c) for r in range(grid[0]) for c in range(grid[1])]  # cls has none
    for crop in range(2):
        for i, place in enumerate(places):
            moves = perturbation is not None and place is not None and masked[crop, i - 1]
            table = rpe.table + delta if moves and perturbed == 'delta' else rpe.table
            dr, dc = shift.tolist() if moves and perturbed == 'shift' else (0, 0)
            for j, other in enumerate(places):
                vector = table[:, 49]
                if place is not None and other is not None:
                    row, column = place[0] - other[0] + dr, place[1] - other[1] + dc
                    vector = VECTORS[lookup](table, row, column)
                expected[crop, :, i, j] = query[crop, :, i] @ vector
    torch.testing.assert_close(rpe(query, grid, perturbation), expected, atol=3e-5, rtol=1e-4)


def test_definition_without_cls():
    rpe, query, masked = case('interpolate', (3, 4))
    perturbation = Perturbation(masked, shift=torch.tensor([0.3, 0.4]))
    whole = rpe(query, (3, 4), perturbation)
    torch.testing.assert_close(rpe(query[:, :, 1:], (3, 4), perturbation), whole[:, :, 1:, 1:])


# The fast ways


def shifted(masked, shift, grid):
    """By the second of three shifts, as the weights of all blocks are computed together."""
    others = torch.tensor([[0.7, -0.2], [-3.0, 5.0]])
    moved = moved_weights(torch.stack((others[0], shift, others[1])), grid)[1]
    return Perturbation(masked, shift=shift, moved=moved)


def assert_equal_terms(ours, defined, atol=5e-5):
    torch.testing.assert_close(ours[:, :, 1:], defined[:, :, 1:], atol=atol, rtol=1e-4)
    # The row of the cls query may differ by a constant, which attention does not see.
    torch.testing.assert_close(ours.softmax(-1), defined.softmax(-1), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize('grid', [(7, 7), (3, 11), (16, 2), (1, 1)])
@pytest.mark.parametrize('lookup', ['bucket', 'interpolate'])
def test_look_up(way, lookup, grid):
    rpe, query, _ = case(lookup, grid)
    assert_equal_terms(position_term(query, rpe, grid), rpe(query, grid))


@settings(max_examples=25, deadline=None)
@given(
    shift=st.tuples(st.floats(-6, 6, width=32), st.floats(-6, 6, width=32)),
    grid=st.sampled_from([(7, 7), (4, 6), (2, 9)]),
)
def test_shifted_look_up(way, shift, grid):
    rpe, query, masked = case('interpolate', grid)
    perturbation = shifted(masked, torch.tensor(shift), grid)
    defined = rpe(query, grid, perturbation)
    assert_equal_terms(position_term(query, rpe, grid, perturbation), defined)
    alone = perturbation._replace(moved=None)
    assert_equal_terms(position_term(query, rpe, grid, alone), defined)


@pytest.mark.parametrize('lookup', ['bucket', 'interpolate'])
@pytest.mark.parametrize('width', [50, 1])
def test_perturbed_table(way, lookup, width):
    rpe, query, masked = case(lookup, (4, 5))
    perturbation = Perturbation(masked, delta=torch.randn(8, width))
    defined = rpe(query, (4, 5), perturbation)
    assert_equal_terms(position_term(query, rpe, (4, 5), perturbation), defined, atol=1e-4)


def test_shift_and_perturbed_table_together(way):
    rpe, query, masked = case('interpolate', (4, 5))
    perturbation = Perturbation(masked, torch.tensor([0.4, -1.3]), torch.randn(8, 50))
    defined = rpe(query, (4, 5), perturbation)
    assert_equal_terms(position_term(query, rpe, (4, 5), perturbation), defined, atol=1e-4)


@pytest.mark.parametrize('start', [(0.0, 0.0), (0.31, -0.62), (-2.4, 1.7)])
def test_gradients_of_shift_table_and_query(way, start):
    grid = (5, 6)
    rpe, query, masked = case('interpolate', grid)
    rpe.double()
    query = query.double().requires_grad_()
    shift = torch.tensor(start, requires_grad=True)
    probe = torch.randn(2, 3, 30, 31, dtype=torch.float64)
    perturbation = shifted(masked, shift, grid)
    got, expected = (
        torch.autograd.grad((term[:, :, 1:] * probe).sum(), [query, shift, rpe.table])
        for term in (
            position_term(query, rpe, grid, perturbation),
            rpe(query, grid, perturbation),
        )
    )
    for ours, defined in zip(got, expected, strict=True):
        scale = defined.abs().max().item()
        torch.testing.assert_close(ours, defined, atol=1e-4 * scale, rtol=0)


@pytest.mark.parametrize('start', [(0.0, 0.0), (1e-3, -5e-4), (0.31, -0.62)])
def test_bfloat16_has_the_gradients_of_float32(way, start):
    """Also of shifts far below what bfloat16 can tell from the position of a patch."""
    grid = (7, 7)
    rpe, query, masked = case('interpolate', grid, dims=32)
    query = query.bfloat16().requires_grad_()
    probe = torch.randn(2, 3, 50, 50, generator=torch.Generator().manual_seed(1))
    shift = torch.tensor(start, requires_grad=True)
    perturbation = shifted(masked, shift, grid)
    with torch.autocast('cpu', torch.bfloat16):
        term = position_term(query, rpe, grid, perturbation)
    assert term.dtype == torch.bfloat16
    defined = rpe(query.float(), grid, perturbation)
    got, expected = (
        torch.autograd.grad((t.float() * probe)[:, :, 1:].sum(), [query, shift, rpe.table])
        for t in (term, defined)
    )
    got, expected = [term[:, :, 1:], *got], [defined[:, :, 1:], *expected]
    for name, ours, exact in zip(('term', 'query', 'shift', 'table'), got, expected, strict=True):
        error = (ours.float() - exact.float()).norm() / exact.float().norm()
        # A gradient of two numbers is a sum of thousands with random signs.
        assert error < (0.08 if name == 'shift' else 0.01), name


def test_zero_shift_is_the_baseline(way):
    grid = (7, 7)
    rpe, query, masked = case('interpolate', grid)
    term = position_term(query, rpe, grid, shifted(masked, torch.zeros(2), grid))
    torch.testing.assert_close(term, position_term(query, rpe, grid), atol=1e-6, rtol=1e-6)


def test_all_ways_are_taken(way, monkeypatch):
    rpe, query, _ = case('bucket', (3, 3))
    taken = []
    for name in WAYS.values():
        function = getattr(irpe_kernels, name)
        monkeypatch.setattr(
            irpe_kernels, name, lambda *a, f=function, n=name: taken.append(n) or f(*a)
        )
    position_term(query, rpe, (3, 3))
    assert taken == [WAYS[way]]


def test_works_without_cls_and_under_autocast(way):
    grid = (4, 4)
    rpe, query, _ = case('interpolate', grid)
    whole = position_term(query, rpe, grid)
    torch.testing.assert_close(position_term(query[:, :, 1:], rpe, grid), whole[:, :, 1:, 1:])
    with torch.autocast('cpu', torch.bfloat16):
        half = position_term(query.bfloat16(), rpe, grid)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), whole, atol=0.15, rtol=0.05)


def test_cached_weights_of_inference_mode_still_train(way):
    rpe, query, _ = case('bucket', (3, 13))
    with torch.inference_mode():
        position_term(query, rpe, (3, 13))
    position_term(query, rpe, (3, 13)).sum().backward()
    assert rpe.table.grad.abs().sum() > 0


@pytest.mark.parametrize('perturbed', [False, True])
@pytest.mark.parametrize('lookup', ['bucket', 'interpolate'])
@pytest.mark.parametrize('num_extra_tokens', [0, 1])
def test_rows_at_a_time_are_the_whole(monkeypatch, lookup, num_extra_tokens, perturbed):
    grid = (5, 7)
    layer = Attention(24, 3, 'rpe', lookup).double()
    torch.nn.init.normal_(layer.rpe.table)
    x = torch.randn(2, num_extra_tokens + 35, 24, dtype=torch.float64, requires_grad=True)
    masked = torch.rand(2, 35) < 0.75
    perturbation = Perturbation(masked, delta=torch.randn(8, 50).double()) if perturbed else None
    target = torch.randn_like(x)
    results = []
    monkeypatch.setattr(irpe_kernels, 'MAX_DENSE_PATCHES', 0)
    for pairs in (10**9, 100):  # 100 pairs: two rows at a time, the last one alone
        monkeypatch.setattr(irpe_kernels, 'MAX_PAIRS', pairs)
        monkeypatch.setattr(irpe_kernels, 'PAIRS_AT_A_TIME', 2 * 7 * 35)
        out = layer(x, grid, perturbation)
        results.append([out, *torch.autograd.grad((out * target).sum(), [x, *layer.parameters()])])
        with torch.no_grad():
            again = layer(x, grid, perturbation)
            torch.testing.assert_close(again, out, atol=1e-6, rtol=1e-5)
    for whole, by_rows in zip(*results, strict=True):
        torch.testing.assert_close(by_rows, whole, atol=1e-6, rtol=1e-5)


def test_choice(monkeypatch):
    monkeypatch.setattr(irpe_kernels, 'MAX_DENSE_PATCHES', 256)
    monkeypatch.setattr(irpe_kernels, 'GATHERING_DEVICES', ('cpu',))

    def choose(lookup, grid, device):
        num_tokens = grid[0] * grid[1] + 1
        return irpe_kernels.choose(lookup, grid, num_tokens, torch.device(device))

    for device in ('cpu', 'cuda'):
        for lookup in ('bucket', 'interpolate'):
            assert choose(lookup, (7, 7), device) == ('multiplied out', 7)
    assert choose('bucket', (20, 30), 'cpu') == ('gathered', 20)
    assert choose('bucket', (20, 30), 'cuda') == ('by axes', 20)
    assert choose('interpolate', (20, 30), 'cpu') == ('by axes', 20)
    way, rows = choose('interpolate', (64, 64), 'cuda')
    # At most a million pairs at a time.
    assert way == 'by axes' and rows * 64 * 64**2 <= 2**20 < (rows + 1) * 64 * 64**2


def test_attention_equals_plain_softmax():
    grid = (3, 4)
    attention = Attention(24, 3, 'rpe', 'bucket')
    torch.nn.init.normal_(attention.rpe.table)
    x = torch.randn(2, 13, 24)
    q, k, v = attention.qkv(x).reshape(2, 13, 3, 3, 8).permute(2, 0, 3, 1, 4)
    logits = (q * 8**-0.5) @ k.transpose(-1, -2)
    logits = logits + attention.rpe(q * 8**-0.5, grid)
    plain = attention.proj((logits.softmax(-1) @ v).transpose(1, 2).reshape(2, 13, 24))
    torch.testing.assert_close(attention(x, grid), plain, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(attention.weights(x, grid), logits.softmax(-1))


def test_mistakes(way):
    with pytest.raises(ValueError, match='rpe_lookup'):
        ImageRelativePosition(8, 'nearest')
    rpe, query, masked = case('bucket', (2, 2))
    with pytest.raises(ValueError, match="rpe_lookup='interpolate'"):
        position_term(query, rpe, (2, 2), shifted(masked, torch.zeros(2), (2, 2)))
    with pytest.raises(ValueError, match='heads'):
        Attention(10, 3)
