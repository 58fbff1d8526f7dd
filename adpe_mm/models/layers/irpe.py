"""Image relative position encoding (iRPE): what it is, and what an adversary does to it.

iRPE (Wu et al., arXiv 2107.14222), 'product' method, contextual, on keys, one table for all heads:
the logit of query i and key j gains ``(scale * q_i) . table[:, bucket(i, j)]``. The table has 7 x 7
buckets, for the piecewise distance of rows and of columns, and one more for every pair with the
cls token. The interpolating look-up (AdPE, arXiv 2303.07598, section 3.3) reads the 7 x 7 buckets
between their centres instead, so that an offset may be any real number and has a gradient.

An adversary acts on masked queries only: they add `delta` to the table, and `shift` to the offsets.

This file is the definition, one entry per pair, plainly. Networks call `irpe_kernels.py`, which
computes the same faster and is tested against this.

Letters in shapes: B batch, H heads, L tokens (cls, if there is one, and patches), N patches,
R, C rows and columns of the patch grid, D head width, K = 7 buckets per axis.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adpe_mm.checkpoints import LOOKUPS, decode_lookup, encode_lookup
from adpe_mm.errors import UserError

# Wu et al.: ratio 1.9 gives alpha = 1 * ratio, beta = 2 * ratio, gamma = 8 * ratio (in patches).
ALPHA, BETA, GAMMA = 1.9, 3.8, 15.2
REACH = int(BETA)  # the farthest bucket on either side
AXIS_BUCKETS = 2 * REACH + 1  # K
NUM_BUCKETS = AXIS_BUCKETS**2 + 1  # the last one is for pairs with the cls token


class Perturbation(NamedTuple):
    """What an adversary does to the relative positions of masked queries in one block.

    Attributes:
        masked: (B, N) bool, True where the patch is masked.
        shift: (2,), added to the (row, column) offsets, in patches; or None.
        delta: (D, 50) or (D, 1), added to the table; or None.
        moved: `irpe_kernels.moved_weights` of the shift, where those of all blocks were computed
            in one go; or None.
    """

    masked: Tensor
    shift: Tensor | None = None
    delta: Tensor | None = None
    moved: tuple[Tensor, Tensor] | None = None


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


def pair_offsets(grid_size: tuple[int, int], device: torch.device) -> Tensor:
    """(N, N, 2) offsets query - key of rows and of columns, in patches."""
    rows, columns = (torch.arange(size, device=device) for size in grid_size)
    place = torch.cartesian_prod(rows, columns).float()  # (N, 2)
    return place[:, None] - place[None, :]


def bucket_term(query: Tensor, table: Tensor, offsets: Tensor) -> Tensor:
    """Wu et al.'s look-up: scores of all buckets, of which each pair takes that of its own.

    Args:
        query: (B, H, L, D).
        table: (D, 50).
        offsets: (N, N, 2), of rows and of columns.

    Returns:
        (B, H, L, L).
    """
    index = piecewise_distance(offsets).round().clamp(-REACH, REACH).long() + REACH
    bucket = AXIS_BUCKETS * index[..., 0] + index[..., 1]  # (N, N)
    num_extra_tokens = query.shape[2] - len(offsets)
    bucket = F.pad(bucket, (num_extra_tokens, 0, num_extra_tokens, 0), value=NUM_BUCKETS - 1)
    return (query @ table).gather(-1, bucket.expand(*query.shape[:2], -1, -1))


def interpolated_term(query: Tensor, table: Tensor, offsets: Tensor) -> Tensor:
    """AdPE's look-up: the vector of each pair is sampled between buckets. See `bucket_term`.

    The row offset is the sampler's x, as officially: it is read along the table's second axis.
    """
    point = piecewise_distance(offsets).clamp(-BETA, BETA) / BETA
    buckets = table[:, :-1].unflatten(1, (AXIS_BUCKETS, AXIS_BUCKETS))  # (D, K, K)
    vectors = F.grid_sample(buckets[None], point[None].to(table), align_corners=False)[0]
    L, num_extra_tokens = query.shape[2], query.shape[2] - len(offsets)
    term = (query @ table[:, -1:]).repeat(1, 1, 1, L)  # of pairs with cls
    patches = query[:, :, num_extra_tokens:].to(table)
    term[:, :, num_extra_tokens:, num_extra_tokens:] = torch.einsum(
        'bhid,dij->bhij', patches, vectors
    )
    return term


TERMS = dict(zip(LOOKUPS, (bucket_term, interpolated_term), strict=True))
OF_SCRATCH = 'interpolate'  # The look-up of a network that states none and loads nothing.


class ImageRelativePosition(nn.Module):
    """iRPE on keys: the position term of the attention logits.

    The look-up is kept in the state dict, as its extra state, and what is loaded must agree.

    Args:
        head_dim: Width D of a head.
        lookup: 'bucket' rounds an offset to its bucket (Wu et al.); 'interpolate' interpolates
            linearly between buckets, which a network pretrained with a coordinate adversary
            keeps when it is fine-tuned (AdPE paper, section 3.3). None takes that of the weights
            that are loaded, and interpolates where none are.

    Attributes:
        stated: The argument `lookup`.
        lookup: The one in use.

    Raises:
        ValueError: If `lookup` is unknown, or, in loading, another than the weights were trained
            with.
    """

    def __init__(self, head_dim: int, lookup: str | None = 'bucket') -> None:
        super().__init__()
        if lookup not in (None, *LOOKUPS):
            raise UserError(f"rpe_lookup must be one of {LOOKUPS} or None, got '{lookup}'")
        self.stated = lookup
        self.lookup = lookup or OF_SCRATCH
        self.table = nn.Parameter(torch.zeros(head_dim, NUM_BUCKETS))
        self.register_load_state_dict_pre_hook(_tell_lookup)

    def get_extra_state(self) -> Tensor:
        """The look-up in use, see `encode_lookup`."""
        return encode_lookup(self.lookup)

    def set_extra_state(self, state: Tensor) -> None:
        """Take the look-up of the weights that are loaded.

        Raises:
            ValueError: If another one is stated.
        """
        trained = decode_lookup(state)
        if self.stated not in (None, trained):
            raise UserError(
                f"the weights were trained with rpe_lookup='{trained}', and the config states "
                f"backbone.rpe_lookup='{self.stated}': state None there, for that of the weights"
            )
        self.lookup = trained

    def extra_repr(self) -> str:
        return f"lookup='{self.lookup}', buckets={NUM_BUCKETS}"

    def forward(
        self,
        query: Tensor,
        grid_size: tuple[int, int],
        perturbation: Perturbation | None = None,
    ) -> Tensor:
        """Position term of all logits, by the definition; `irpe_kernels.position_term` is faster.

        Args:
            query: (B, H, L, D); scaled by ``D ** -0.5`` for the term of the paper. L is R * C
                patches, or one more with the cls token in front.
            grid_size: (R, C).
            perturbation: What the adversary does to masked queries, or None.

        Returns:
            (B, H, L, L).
        """
        look_up, offsets = TERMS[self.lookup], pair_offsets(grid_size, query.device)
        term = look_up(query, self.table, offsets)
        if perturbation is None:
            return term
        masked, shift, delta, _ = perturbation
        table = self.table if delta is None else self.table + delta
        moved = offsets if shift is None else offsets + shift
        masked = F.pad(masked, (query.shape[2] - len(offsets), 0))[:, None, :, None]
        return torch.where(masked, look_up(query, table, moved), term)


def _tell_lookup(module: ImageRelativePosition, state_dict: dict, prefix: str, *args) -> None:
    """Weights that do not say their look-up are of the one that is stated."""
    key = f'{prefix}_extra_state'
    if key in state_dict or f'{prefix}table' not in state_dict:
        return
    if module.stated is None:
        raise UserError(
            'the weights do not say which look-up of relative positions they were trained with: '
            "state it as backbone.rpe_lookup, 'interpolate' after a coordinate adversary and "
            "'bucket' otherwise, unless their config said another"
        )
    state_dict[key] = encode_lookup(module.stated)
