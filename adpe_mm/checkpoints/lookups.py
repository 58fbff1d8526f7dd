"""iRPE's look-up in a state dict: how it is written, and what tells it where it is missing."""

import torch
from torch import Tensor

from adpe_mm.errors import UserError

LOOKUPS = ('bucket', 'interpolate')  # Checkpoints hold the place in this list: it never changes.
_TABLE, _LOOKUP = 'attn.rpe.table', 'attn.rpe._extra_state'


def encode_lookup(lookup: str) -> Tensor:
    """0-d uint8 tensor, so that any format of weights can hold it."""
    return torch.tensor(LOOKUPS.index(lookup), dtype=torch.uint8, device='cpu')


def decode_lookup(value: Tensor) -> str:
    """The look-up that `encode_lookup` wrote.

    Raises:
        ValueError: If there is no such look-up.
    """
    if int(value) >= len(LOOKUPS):
        raise UserError(
            f'the checkpoint has look-up {int(value)} of relative positions, of which this version '
            f'of adpe_mm knows {len(LOOKUPS)}: install the version that wrote it'
        )
    return LOOKUPS[int(value)]


def has_irpe(weights: dict[str, Tensor]) -> bool:
    """Whether a state dict is of a network with iRPE."""
    return any(name.endswith(_TABLE) for name in weights)


def find_lookup(weights: dict[str, Tensor]) -> str | None:
    """The look-up that a state dict was trained with.

    Args:
        weights: Under our names. Where they lack the look-up, as before it was kept, the shifts of
            a coordinate adversary tell it: they need the interpolating one.

    Returns:
        One of `LOOKUPS`; None if nothing tells it, or nothing is looked up.
    """
    for name, value in weights.items():
        if name.endswith(_LOOKUP) and not value.is_meta:
            return decode_lookup(value)
    shift = weights.get('adversary.encoder.0')
    return 'interpolate' if shift is not None and shift.ndim == 1 else None


def add_lookup(weights: dict[str, Tensor], lookup: str) -> None:
    """Write the look-up beside each of iRPE's tables that has none."""
    for name in [name for name in weights if name.endswith(_TABLE)]:
        weights.setdefault(name.removesuffix(_TABLE) + _LOOKUP, encode_lookup(lookup))
