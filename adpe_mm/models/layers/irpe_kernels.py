"""Attention with iRPE, fast: the ways to compute what `irpe.py` defines, and which one is taken.

Both look-ups are separable: the weight of bucket (a, b) for a pair is a weight of the row offset
times a weight of the column offset. So no tensor of one entry per pair *and* bucket, or per pair
*and* channel, is needed:

- **multiplied out**: on small grids the products below are too small to be fast. Weights and table
  are multiplied first: every place of a query then has keys of its own, which all heads and images
  share, and the term is one product.
- **by axes**: two matrix products, one per axis.
- **gathered**: the score of each pair's bucket is picked, not multiplied.
- **by rows** of queries, any of the last two: of many tokens only some rows' terms are held at a
  time; they are computed again in backward.

`choose` picks; all thresholds are here. They were tuned on a CPU (docs/speed.md).

Letters in shapes: see `irpe.py`; r rows of the grid out of R.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from adpe_mm.errors import UserError

from .context import constant, without_autocast
from .irpe import (
    AXIS_BUCKETS,
    BETA,
    NUM_BUCKETS,
    REACH,
    ImageRelativePosition,
    Perturbation,
    piecewise_distance,
)
from .place_products import PlaceProducts, aligned

# Up to so many patches the keys are multiplied out: 2 to 11 times as fast for the 36 or 49 patches
# of a pretraining crop, 2 to 3 times for ViTDet's windows of 196.
MAX_DENSE_PATCHES = 256
# Where scores are gathered. On a GPU the gradients of what is picked would be summed in any order.
GATHERING_DEVICES = ('cpu',)
# Terms of so many pairs (per head and image) are held at a time: all of them up to 1448 tokens,
# beyond that those of some rows of queries. At 64 x 64 patches and 12 heads a piece is 25 MB in
# bfloat16 where the whole would be 400 MB.
MAX_PAIRS = 2**21
PAIRS_AT_A_TIME = 2**20
# Up to so many keys, products of matrices are the faster attention on a CPU. More were not
# measured, and there it is memory that counts.
MAX_PRODUCT_TOKENS = 1448


def choose(
    lookup: str, grid_size: tuple[int, int], num_tokens: int, device: torch.device
) -> tuple[str, int]:
    """The way to look up, and how many rows of queries to do at a time.

    Args:
        lookup: 'bucket' or 'interpolate'.
        grid_size: (R, C).
        num_tokens: L.
        device: Where it is computed.

    Returns:
        'multiplied out', 'by axes' or 'gathered'; and a number of rows, R for all at once.
    """
    R, C = grid_size
    if R * C <= MAX_DENSE_PATCHES:
        return 'multiplied out', R
    way = 'gathered' if lookup == 'bucket' and device.type in GATHERING_DEVICES else 'by axes'
    if num_tokens**2 <= MAX_PAIRS:
        return way, R
    return way, max(1, PAIRS_AT_A_TIME // (C * R * C))


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    """Scaled dot-product attention, by the fastest way there is.

    On a CPU, PyTorch's kernel knows no bias that learns, and products of matrices are faster in
    bfloat16 up to a thousand tokens; they round the logits to the dtype of `q`.

    Args:
        q: (B, H, query L, D).
        k: (B, H, key L, D).
        v: (B, H, key L, D or another width).
        bias: Added to the logits, (B or 1, H, query L, key L) in the dtype of `q`; or None.
        scale: Factor of the products.

    Returns:
        (B, H, query L, width of `v`).
    """
    if bias is not None:  # aligned first, or each image would get a copy of a shared one
        bias = aligned(bias).expand(q.shape[0], -1, -1, -1)
    products = q.dtype == torch.bfloat16 or (bias is not None and bias.requires_grad)
    if q.device.type != 'cpu' or not products or k.shape[2] > MAX_PRODUCT_TOKENS:
        return F.scaled_dot_product_attention(q, k, v, bias, scale=scale)
    if scale != 1:
        q = q * scale
    if bias is None:
        logits = q @ k.transpose(-1, -2)
    else:  # added by the product itself
        key = k.flatten(0, 1).transpose(-1, -2)
        logits = torch.baddbmm(bias.flatten(0, 1), q.flatten(0, 1), key).unflatten(0, q.shape[:2])
    return logits.softmax(dim=-1) @ v


def attend_with_irpe(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rpe_query: Tensor,
    rpe: ImageRelativePosition,
    grid_size: tuple[int, int],
    perturbation: Perturbation | None,
    scale: float,
    rpe_scale: float,
) -> Tensor:
    """`attend` with iRPE's term as the bias.

    Args:
        q: (B, H, L, D or more).
        k: (B, H, L, D or more).
        v: (B, H, L, D).
        rpe_query: (B, H, L, D) query of iRPE's term.
        rpe: Look-up and table.
        grid_size: (R, C).
        perturbation: What the adversary does to masked queries, or None.
        scale: Factor of the products of `q` and `k`.
        rpe_scale: Factor of iRPE's term.

    Returns:
        (B, H, L, D).
    """
    R, C = grid_size
    num_extra_tokens = q.shape[2] - R * C
    way, at_a_time = choose(rpe.lookup, grid_size, q.shape[2], q.device)
    if at_a_time >= R:
        bias = position_term(rpe_query, rpe, grid_size, perturbation, rpe_scale)
        return attend(q, k, v, bias, scale)

    def attend_rows(q, k, v, rpe_query, rows, perturbation):
        bias = term_of_rows(
            way, rpe_query, rpe, grid_size, rows, num_extra_tokens, perturbation, rpe_scale
        )
        return attend(q, k, v, bias, scale)

    outs = []
    if num_extra_tokens:  # cls, whose term softmax cancels
        outs.append(attend(q[:, :, :num_extra_tokens], k, v, None, scale))
    for start in range(0, R, at_a_time):
        rows = slice(start, min(start + at_a_time, R))
        patches = slice(rows.start * C, rows.stop * C)
        tokens = slice(num_extra_tokens + patches.start, num_extra_tokens + patches.stop)
        part = perturbation
        if perturbation is not None:
            part = perturbation._replace(masked=perturbation.masked[:, patches])
        arguments = q[:, :, tokens], k, v, rpe_query[:, :, tokens], rows, part
        if torch.is_grad_enabled():
            out = checkpoint(attend_rows, *arguments, use_reentrant=False, preserve_rng_state=False)
        else:
            out = attend_rows(*arguments)
        outs.append(out)
    return torch.cat(outs, dim=2)


def position_term(
    query: Tensor,
    rpe: ImageRelativePosition,
    grid_size: tuple[int, int],
    perturbation: Perturbation | None = None,
    scale: float = 1.0,
) -> Tensor:
    """iRPE's term of all logits, as `ImageRelativePosition.forward` defines it.

    But for the row of the cls query, which is 0: its term is the same for every key, so softmax
    cancels it.

    Args:
        query: (B, H, L, D).
        rpe: Look-up and table.
        grid_size: (R, C).
        perturbation: What the adversary does to masked queries, or None.
        scale: Factor of the term.

    Returns:
        (B, H, L, L) in the dtype of `query`.

    Raises:
        ValueError: If a shift is asked of the bucket look-up.
    """
    R, C = grid_size
    num_extra_tokens = query.shape[2] - R * C
    assert num_extra_tokens in (0, 1)
    way, _ = choose(rpe.lookup, grid_size, query.shape[2], query.device)
    if way == 'multiplied out':
        return multiplied_out(query, rpe, grid_size, num_extra_tokens, perturbation, scale)
    patches, rows = query[:, :, num_extra_tokens:], slice(0, R)
    term = term_of_rows(way, patches, rpe, grid_size, rows, num_extra_tokens, perturbation, scale)
    return F.pad(term, (0, 0, num_extra_tokens, 0))


# Weights of the buckets


def bucket_weights(offset: Tensor) -> Tensor:
    """One-hot choice of the bucket of each integer offset.

    Args:
        offset: (...) offsets in patches.

    Returns:
        Tensor of shape (..., K).
    """
    distance = piecewise_distance(offset)
    index = distance.round().clamp(-REACH, REACH).long() + REACH
    bucket = torch.arange(AXIS_BUCKETS, device=offset.device)
    return (index.unsqueeze(-1) == bucket).to(offset.dtype)


def interpolate_weights(offset: Tensor) -> Tensor:
    """Linear interpolation between buckets at real offsets; gradients reach the offsets.

    The point of an offset on the axis of K buckets, and the weights beyond its ends, are those of
    `grid_sample(align_corners=False, padding_mode='zeros')` at ``clamp(g(offset)) / BETA``.

    Args:
        offset: (...) offsets in patches.

    Returns:
        Tensor of shape (..., K); a row sums to 1, or to less where it reaches beyond the table.
    """
    point = piecewise_distance(offset).clamp(-BETA, BETA) / BETA
    place = ((point + 1) * AXIS_BUCKETS - 1) / 2  # in buckets, from -0.5 to K - 0.5
    left = place.detach().floor()
    fraction = (place - left).unsqueeze(-1)
    bucket = torch.arange(AXIS_BUCKETS, device=offset.device)
    at_left = bucket == left.unsqueeze(-1)
    at_right = bucket == left.unsqueeze(-1) + 1
    return at_left * (1 - fraction) + at_right * fraction


def axis_offsets(size: int, device: torch.device) -> Tensor:
    """(size, size) offsets query - key along one axis of the grid, in patches."""
    place = torch.arange(size, dtype=torch.float32, device=device)
    return place[:, None] - place[None, :]


def moved_weights(shifts: Tensor, grid_size: tuple[int, int]) -> list[tuple[Tensor, Tensor]]:
    """Interpolation weights at shifted offsets, for all shifts in one go.

    A block's own would be fifty operations on tensors of a few kB, and as many in backward.

    Args:
        shifts: (M, 2), of (row, column) offsets, in patches.
        grid_size: (R, C).

    Returns:
        For each shift the weights of the row offsets (R, R, K) and of the column offsets
        (C, C, K), in float32; gradients reach the shifts.
    """
    shifts = shifts.float()
    offsets = [
        (axis_offsets(size, shifts.device) + shifts[:, axis, None, None]).flatten(1)
        for axis, size in enumerate(grid_size)
    ]
    weights = interpolate_weights(torch.cat(offsets, dim=1))
    parts = weights.split([size**2 for size in grid_size], dim=1)
    axes = (p.unflatten(1, (n, n)).unbind() for p, n in zip(parts, grid_size, strict=True))
    return list(zip(*axes, strict=True))


def _weights_of_shift(
    rpe: ImageRelativePosition, perturbation: Perturbation, grid_size: tuple[int, int]
) -> tuple[Tensor, Tensor] | None:
    """`moved_weights` of a perturbation's shift, or None without one."""
    if perturbation.shift is None:
        return None
    if rpe.lookup != 'interpolate':
        raise UserError(
            "a coordinate adversary needs rpe_lookup='interpolate': the bucket look-up has no "
            'gradient with respect to a shift'
        )
    return perturbation.moved or moved_weights(perturbation.shift[None], grid_size)[0]


@constant
def _fixed_weights(lookup: str, size: int, device: torch.device) -> Tensor:
    """Weights of one axis without an adversary: (size, size, K)."""
    offset = axis_offsets(size, device)
    return bucket_weights(offset) if lookup == 'bucket' else interpolate_weights(offset)


@constant
def _fixed_dense_weights(
    lookup: str, grid_size: tuple[int, int], num_extra_tokens: int, device: torch.device
) -> Tensor:
    """`dense_weights` without an adversary."""
    axes = (_fixed_weights(lookup, size, device) for size in grid_size)
    return dense_weights(*axes, num_extra_tokens, lookup == 'interpolate')


def dense_weights(rows: Tensor, columns: Tensor, num_extra_tokens: int, swap: bool) -> Tensor:
    """Weights of all buckets for all pairs of tokens, from those of the axes.

    Args:
        rows: (R, R, K) weights of the row offsets.
        columns: (C, C, K) weights of the column offsets.
        num_extra_tokens: Number of cls tokens, 0 or 1, in front of the patches.
        swap: Whether the row offset is read along the table's second axis.

    Returns:
        Tensor of shape (query L, 50, key L), 0 for a cls query.
    """
    weights = torch.einsum('rei,cdj->rcjied' if swap else 'rei,cdj->rcijed', rows, columns)
    weights = weights.flatten(4, 5).flatten(2, 3).flatten(0, 1)  # (N, 49, N)
    weights = F.pad(weights, (num_extra_tokens, 0, 0, 1, num_extra_tokens, 0))
    if num_extra_tokens:  # all pairs with cls share a bucket
        weights[1:, -1, 0] = 1
    return weights


# The ways


def multiplied_out(
    query: Tensor,
    rpe: ImageRelativePosition,
    grid_size: tuple[int, int],
    num_extra_tokens: int,
    perturbation: Perturbation | None,
    scale: float,
) -> Tensor:
    """As `position_term`: each place of a query has its own keys, for all heads and images."""
    grid_size, device = tuple(grid_size), query.device
    masked = None
    with without_autocast(device):  # on a GPU it would also round the weights, which are kept
        weights = _fixed_dense_weights(rpe.lookup, grid_size, num_extra_tokens, device)
        # The scale is of the table: it is small, where the queries are not.
        table = rpe.table.float() * scale
        keys = table @ weights  # (L, D, L)
        if perturbation is not None:
            # Keys for masked queries only: what the adversary changes. Rounded on their own,
            # they keep shifts that the sum would hide in bfloat16.
            changes = []
            moved = _weights_of_shift(rpe, perturbation, grid_size)
            if moved is not None:
                fixed, weights = weights, dense_weights(*moved, num_extra_tokens, swap=True)
                changes.append(table @ (weights - fixed))
            if perturbation.delta is not None:
                delta = perturbation.delta.float() * scale
                changes.append(delta.expand_as(table) @ weights)
            keys = torch.cat((keys, sum(changes)), dim=1)
            masked = F.pad(perturbation.masked, (num_extra_tokens, 0)).T  # (L, B)
        query = query.permute(2, 0, 1, 3)  # (L, B, H, D)
        term = PlaceProducts.apply(query, masked, keys.to(query.dtype))
    return term.unflatten(1, query.shape[1:3]).permute(1, 2, 0, 3)


def term_of_rows(
    way: str,
    query: Tensor,
    rpe: ImageRelativePosition,
    grid_size: tuple[int, int],
    rows: slice,
    num_extra_tokens: int,
    perturbation: Perturbation | None,
    scale: float,
) -> Tensor:
    """Position term of the logits of the queries in some rows of the grid.

    Args:
        way: 'by axes' or 'gathered'.
        query: (B, H, r * C, D), the queries of r rows, without cls.
        rpe: Look-up and table.
        grid_size: (R, C).
        rows: Which rows.
        num_extra_tokens: Number of cls tokens, 0 or 1, in front of the keys.
        perturbation: Of these queries: ``masked`` is (B, r * C).
        scale: Factor of the term.

    Returns:
        Tensor of shape (B, H, r * C, num_extra_tokens + R * C) in the dtype of `query`.

    Raises:
        ValueError: If a shift is asked of the bucket look-up.
    """
    score = query @ (rpe.table * scale)  # (B, H, r * C, 50)
    masked = moved = None
    if perturbation is not None:
        masked = perturbation.masked[:, None, :, None]
        moved = _weights_of_shift(rpe, perturbation, grid_size)
        if perturbation.delta is not None:
            score = score + query @ (perturbation.delta * scale) * masked
    of_rows, of_columns = (_fixed_weights(rpe.lookup, size, query.device) for size in grid_size)
    if way == 'gathered':
        return gathered(score, of_rows[rows], of_columns, num_extra_tokens)

    patch_score = score[..., :-1].unflatten(-1, (AXIS_BUCKETS, AXIS_BUCKETS))
    if rpe.lookup == 'interpolate':
        # The official sampler reads the row offset along the table's second axis.
        patch_score = patch_score.transpose(-1, -2)
    patch_score = patch_score.unflatten(2, (-1, grid_size[1]))  # (B, H, r, C, K, K)
    term = by_axes(patch_score, of_rows[rows], of_columns)
    if moved is not None:
        of_rows, of_columns = moved
        term = torch.where(masked, by_axes(patch_score, of_rows[rows], of_columns), term)
    term = term.to(query.dtype)
    if num_extra_tokens:  # all pairs with cls share a bucket
        term = torch.cat((score[..., -1:], term), dim=-1)
    return term


def gathered(score: Tensor, rows: Tensor, columns: Tensor, num_extra_tokens: int) -> Tensor:
    """(B, H, r * C, 50) scores -> (B, H, r * C, num_extra_tokens + N), of the pairs' buckets."""
    of_rows, of_columns = rows.argmax(-1), columns.argmax(-1)
    index = AXIS_BUCKETS * of_rows[:, None, :, None] + of_columns[None, :, None, :]
    index = index.flatten(2).flatten(0, 1)  # (r * C, N)
    # All pairs with cls share a bucket.
    index = F.pad(index, (num_extra_tokens, 0), value=NUM_BUCKETS - 1)
    return score.gather(-1, index.expand(*score.shape[:2], -1, -1))


def by_axes(score: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """(B, H, r, C, K, K) scores of buckets -> (B, H, r * C, N) terms of pairs.

    In float32 also under autocast: a bfloat16 weight would hide shifts below 1/256 patch.
    """
    with without_autocast(score.device):
        term = torch.einsum('bhrcij,cdj->bhrcid', score.float(), columns)
        term = torch.einsum('bhrcid,rei->bhrced', term, rows)
    return term.flatten(-2).flatten(2, 3)
