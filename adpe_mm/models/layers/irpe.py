"""Image relative position encoding (iRPE) with two look-ups and room for an adversary.

iRPE (Wu et al., arXiv 2107.14222), 'product' method, contextual, on keys, one table for all heads:
the logit of query i and key j gains ``(scale * q_i) . table[:, bucket(i, j)]``. The table has 7 x 7
buckets for the piecewise distance of rows and of columns, and one more for every pair with the
cls token.

Letters in shapes: B batch, H heads, L tokens (cls and patches), N patches, R rows, C columns of
the grid, D head width, K = 7 buckets an axis.

Both look-ups are separable: the weight of bucket (a, b) for a pair is a weight of the row offset
times a weight of the column offset. So the bias is two matrix products (one an axis), and no tensor
of one entry a pair *and* bucket, or a pair *and* channel, exists. On small grids, where these
products are too small to be fast, table and weights are multiplied out first: every place of a
query then has keys of its own, which all heads and pictures share, and the bias is one product.
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache, wraps
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Wu et al.: ratio 1.9 gives alpha = 1 * ratio, beta = 2 * ratio, gamma = 8 * ratio (in patches).
ALPHA, BETA, GAMMA = 1.9, 3.8, 15.2
REACH = int(BETA)  # the farthest bucket on either side
AXIS_BUCKETS = 2 * REACH + 1  # K
NUM_BUCKETS = AXIS_BUCKETS**2 + 1  # the last one is for pairs with the cls token
LOOKUPS = ('bucket', 'interpolate')
# Up to so many patches the keys are multiplied out: 2 to 11 times as fast for the 36 or 49 patches
# of a pretraining crop, 2 to 3 times for ViTDet's windows of 196 (docs/speed.md).
MAX_DENSE_PATCHES = 256
# Beyond that, where the score of each pair's bucket is picked, not multiplied: faster on a CPU
# (docs/speed.md). On a GPU the gradients of what is picked would be summed in any order.
GATHERING_DEVICES = ('cpu',)


class Perturbation(NamedTuple):
    """What the adversary does to the relative positions of masked queries in one block.

    Attributes:
        masked: (B, N) bool, True where the patch is masked.
        moved: Weights of the row offsets (R, R, K) and the column offsets (C, C, K) at the places
            that a shift moves them to (`moved_weights`), or None.
        delta: (D, 50) or (D, 1), added to the table, or None.
    """

    masked: Tensor
    moved: tuple[Tensor, Tensor] | None = None
    delta: Tensor | None = None


def piecewise_distance(offset: Tensor) -> Tensor:
    """Piecewise index function g of iRPE before rounding: identity near 0, logarithmic beyond.

    Args:
        offset: Offsets in patches, any shape, any real value.

    Returns:
        Distances of the same shape; differentiable (the logarithm is never taken of 0).
    """
    size = offset.abs()
    far = ALPHA + torch.log(size.clamp(min=ALPHA) / ALPHA) / math.log(GAMMA / ALPHA) * (
        BETA - ALPHA
    )
    return torch.where(size <= ALPHA, offset, offset.sign() * far)


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


def _constant(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Keep the results; for torch.compile, which would look through the cache, constants."""
    kept = lru_cache(maxsize=32)(function)

    @wraps(function)
    def call(*args) -> Tensor:
        return kept(*args)

    return torch.compiler.assume_constant_result(call)


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


@_constant
def _fixed_weights(lookup: str, size: int, device: torch.device) -> Tensor:
    """Weights of one axis without an adversary: (size, size, K). They never change, so keep them.

    They are made outside of inference mode, or a cached one could not be used in training later.
    """
    with torch.inference_mode(False), torch.no_grad():
        offset = axis_offsets(size, device)
        return bucket_weights(offset) if lookup == 'bucket' else interpolate_weights(offset)


def _without_autocast(device: torch.device) -> AbstractContextManager:
    if device.type == 'meta':  # knows no autocast
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def multiply_out(rows: Tensor, columns: Tensor, num_prefix: int, swap: bool) -> Tensor:
    """Weights of all buckets for all pairs of tokens, from those of the axes.

    Args:
        rows: (R, R, K) weights of the row offsets.
        columns: (C, C, K) weights of the column offsets.
        num_prefix: Number of cls tokens, 0 or 1, in front of the patches.
        swap: Whether the row offset is read along the table's second axis.

    Returns:
        Tensor of shape (query L, 50, key L). For a cls query all is 0: its term is the same for
        every key, so softmax cancels it.
    """
    weights = torch.einsum('rei,cdj->rcjied' if swap else 'rei,cdj->rcijed', rows, columns)
    weights = weights.flatten(4, 5).flatten(2, 3).flatten(0, 1)  # (N, 49, N)
    weights = F.pad(weights, (num_prefix, 0, 0, 1, num_prefix, 0))
    if num_prefix:  # all pairs with cls share a bucket
        weights[1:, -1, 0] = 1
    return weights


@_constant
def _fixed_dense_weights(
    lookup: str, grid_size: tuple[int, int], num_prefix: int, device: torch.device
) -> Tensor:
    """`multiply_out` without an adversary."""
    with torch.inference_mode(False), torch.no_grad():
        axes = (_fixed_weights(lookup, size, device) for size in grid_size)
        return multiply_out(*axes, num_prefix, lookup == 'interpolate')


class ImageRelativePosition(nn.Module):
    """iRPE on keys: the position term of the attention logits.

    Args:
        head_dim: Width D of a head.
        lookup: 'bucket' rounds an offset to its bucket (Wu et al.); 'interpolate' interpolates
            linearly between buckets, which a network pretrained with a coordinate adversary
            keeps when it is fine-tuned (AdPE paper, section 3.3).

    Raises:
        ValueError: If `lookup` is unknown.
    """

    def __init__(self, head_dim: int, lookup: str = 'bucket') -> None:
        super().__init__()
        if lookup not in LOOKUPS:
            raise ValueError(f"rpe_lookup must be one of {LOOKUPS}, got '{lookup}'")
        self.lookup = lookup
        self.table = nn.Parameter(torch.zeros(head_dim, NUM_BUCKETS))

    def extra_repr(self) -> str:
        return f"lookup='{self.lookup}', buckets={NUM_BUCKETS}"

    def forward(
        self,
        query: Tensor,
        grid_size: tuple[int, int],
        perturbation: Perturbation | None = None,
    ) -> Tensor:
        """Position term of all logits.

        Args:
            query: (B, H, L, D); scaled by ``D ** -0.5`` for the term of the paper. L is R * C
                patches, or one more with the cls token in front.
            grid_size: (R, C).
            perturbation: What the adversary does to masked queries, or None.

        Returns:
            Tensor of shape (B, H, L, L) in the dtype of `query`.

        Raises:
            ValueError: If moved places are asked of the bucket look-up, which has none.
        """
        R, C = grid_size
        num_prefix = query.shape[2] - R * C
        assert num_prefix in (0, 1)
        if R * C <= MAX_DENSE_PATCHES:
            return self._dense_bias(query, grid_size, num_prefix, perturbation)
        bias = self.bias_of_rows(
            query[:, :, num_prefix:], grid_size, slice(0, R), num_prefix, perturbation
        )
        # For the cls query the term is the same for every key, so softmax cancels it: its row is
        # left at 0.
        return F.pad(bias, (0, 0, num_prefix, 0))

    def _dense_bias(
        self,
        query: Tensor,
        grid_size: tuple[int, int],
        num_prefix: int,
        perturbation: Perturbation | None,
    ) -> Tensor:
        """As `forward`: each place of a query has its own keys, for all heads and pictures."""
        weights = _fixed_dense_weights(self.lookup, tuple(grid_size), num_prefix, query.device)
        query = query.permute(2, 0, 1, 3)  # (L, B, H, D)
        if query.device.type == 'cpu':
            query = query.contiguous()  # products of strided matrices take twice the time there
        with _without_autocast(query.device):
            table = self.table.float()
            keys = table @ weights  # (L, D, L)
            if perturbation is not None:
                masked, moved, delta = self._checked(perturbation)
                # Keys for masked queries only: what the adversary changes. Rounded on their own,
                # they keep shifts that the sum would hide in bfloat16.
                changes = []
                if moved is not None:
                    fixed, weights = weights, multiply_out(*moved, num_prefix, swap=True)
                    changes.append(table @ (weights - fixed))
                if delta is not None:
                    changes.append(delta.float().expand_as(table) @ weights)
                keys = torch.cat((keys, sum(changes)), dim=1)
                masked = F.pad(masked, (num_prefix, 0)).T[:, :, None, None]
                query = torch.cat((query, query * masked), dim=-1)
            bias = torch.bmm(query.flatten(1, 2), keys.to(query.dtype))
        return bias.unflatten(1, query.shape[1:3]).permute(1, 2, 0, 3)

    def bias_of_rows(
        self,
        query: Tensor,
        grid_size: tuple[int, int],
        rows: slice,
        num_prefix: int = 0,
        perturbation: Perturbation | None = None,
    ) -> Tensor:
        """Position term of the logits of the queries in some rows of the grid.

        Args:
            query: (B, H, r * C, D), the queries of r rows, without cls.
            grid_size: (R, C).
            rows: Which rows.
            num_prefix: Number of cls tokens, 0 or 1, in front of the keys.
            perturbation: Of these queries: ``masked`` is (B, r * C).

        Returns:
            Tensor of shape (B, H, r * C, num_prefix + R * C) in the dtype of `query`.

        Raises:
            ValueError: If moved places are asked of the bucket look-up, which has none.
        """
        score = query @ self.table  # (B, H, r * C, 50)
        moved = None
        if perturbation is not None:
            masked, moved, delta = self._checked(perturbation)
            masked = masked[:, None, :, None]
            if delta is not None:
                score = score + query @ delta * masked
        of_rows, of_columns = (
            _fixed_weights(self.lookup, size, query.device) for size in grid_size
        )
        if self.lookup == 'bucket' and query.device.type in GATHERING_DEVICES:
            return self._gather(score, of_rows[rows], of_columns, num_prefix)

        patch_score = score[..., :-1].unflatten(-1, (AXIS_BUCKETS, AXIS_BUCKETS))
        patch_score = patch_score.unflatten(2, (-1, grid_size[1]))  # (B, H, r, C, K, K)
        bias = self._look_up(patch_score, of_rows[rows], of_columns)
        if moved is not None:
            of_rows, of_columns = moved
            moved_bias = self._look_up(patch_score, of_rows[rows], of_columns)
            bias = torch.where(masked, moved_bias, bias)
        bias = bias.to(query.dtype)
        if num_prefix:  # all pairs with cls share a bucket
            bias = torch.cat((score[..., -1:], bias), dim=-1)
        return bias

    def _checked(self, perturbation: Perturbation) -> Perturbation:
        if perturbation.moved is not None and self.lookup != 'interpolate':
            raise ValueError(
                "a coordinate adversary needs rpe_lookup='interpolate': the bucket look-up has no "
                'gradient with respect to a shift'
            )
        return perturbation

    def _gather(self, score: Tensor, rows: Tensor, columns: Tensor, num_prefix: int) -> Tensor:
        """(B, H, r * C, 50) scores -> (B, H, r * C, num_prefix + N) those of the pairs' buckets."""
        of_rows, of_columns = rows.argmax(-1), columns.argmax(-1)
        index = AXIS_BUCKETS * of_rows[:, None, :, None] + of_columns[None, :, None, :]
        index = index.flatten(2).flatten(0, 1)  # (r * C, N)
        index = F.pad(index, (num_prefix, 0), value=NUM_BUCKETS - 1)  # all pairs with cls share one
        return score.gather(-1, index.expand(*score.shape[:2], -1, -1))

    def _look_up(self, score: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """(B, H, r, C, K, K) scores of buckets -> (B, H, r * C, N) bias of pairs.

        In float32 also under autocast: a bfloat16 weight would hide shifts below 1/256 patch.
        """
        with _without_autocast(score.device):
            score = score.float()
            if self.lookup == 'interpolate':
                # The official sampler reads the row offset along the table's second axis.
                score = score.transpose(-1, -2)
            bias = torch.einsum('bhrcij,cdj->bhrcid', score, columns)
            bias = torch.einsum('bhrcid,rei->bhrced', bias, rows)
        return bias.flatten(-2).flatten(2, 3)
