"""Names and shapes of other people's checkpoints, and how they become ours.

A converter maps the state dict of a pretraining network to that of `MAEPlus`. It never guesses
silently: what was mapped, what was dropped and why, and what is left is all in its `Report`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from adpe_mm.models.adversaries import infer_adversary, infer_lookup
from adpe_mm.models.layers.position import sincos_position_grid

_BLOCK = [
    (r'norm1', 'ln1'),
    (r'norm2', 'ln2'),
    (r'attn\.qkv', 'attn.qkv'),
    (r'attn\.proj', 'attn.proj'),
    (r'attn\.rpe_k\.lookup_table_(?:weight|bias)', 'attn.rpe.table'),
    (r'mlp\.fc1', 'ffn.layers.0.0'),
    (r'mlp\.fc2', 'ffn.layers.1'),
]
_RULES = [
    (r'cls_token', 'backbone.cls_token'),
    (r'pos_embed', 'backbone.pos_embed'),
    (r'mask_token', 'backbone.mask_token'),
    (r'patch_embed\.proj\.(.*)', r'backbone.patch_embed.projection.\1'),
    *((rf'blocks\.(\d+)\.{a}(.*)', rf'backbone.layers.\1.{b}\2') for a, b in _BLOCK),
    (r'norm\.(.*)', r'backbone.ln1.\1'),
    (r'decoder_embed\.(.*)', r'neck.embed.\1'),
    *((rf'decoder_blocks\.(\d+)\.{a}(.*)', rf'neck.layers.\1.{b}\2') for a, b in _BLOCK),
    (r'decoder_norm\.(.*)', r'neck.ln1.\1'),
    (r'decoder_pred\.(.*)', r'neck.predict.\1'),
    (r'adv_token', 'adversary.ape'),
    (r'blocks\.(\d+)\.attn\.rpe_k\.adv_(?:shift|token)', r'adversary.encoder.\1'),
    (r'decoder_blocks\.(\d+)\.attn\.rpe_k\.adv_(?:shift|token)', r'adversary.decoder.\1'),
]
_CONSTANTS = (r'decoder_pos_embed', r'(?:decoder_)?blocks\.\d+\.attn\.rpe_k\.no_shift')


@dataclass
class Report:
    """What a conversion did.

    Attributes:
        mapped: New name of each old one.
        constants: Old names whose values this package computes itself; they agreed.
        unexpected: Old names that nothing here corresponds to.
    """

    mapped: dict[str, str] = field(default_factory=dict)
    constants: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)

    def check(self, allowed: Iterable[str] = ()) -> None:
        """Raise a ValueError if an array without a counterpart is not allowed by name.

        Args:
            allowed: Regular expressions of whole official names.
        """
        left = [n for n in self.unexpected if not any(re.fullmatch(p, n) for p in allowed)]
        if left:
            raise ValueError(
                f'{len(left)} arrays have no counterpart here: {", ".join(left[:6])}; if they may '
                'be dropped, name them with --allow'
            )

    def __str__(self) -> str:
        lines = [f'{old} -> {new}' for old, new in self.mapped.items()]
        lines += [f'{old}: a constant, computed here and equal' for old in self.constants]
        lines += [f'{old}: no counterpart' for old in self.unexpected]
        lines.append(
            f'{len(self.mapped)} mapped, {len(self.constants)} constants, '
            f'{len(self.unexpected)} without a counterpart'
        )
        return '\n'.join(lines)


def convert(state_dict: dict[str, Tensor]) -> tuple[dict[str, Tensor], Report]:
    """Official AdPE (any variant, any size) or MAE pretraining weights -> ours.

    Args:
        state_dict: Weights under the official names.

    Returns:
        Weights under the names of `MAEPlus`, and the report.

    Raises:
        ValueError: If a constant of the official network (decoder positions, zero shift) does not
            have the value that this package computes.
    """
    converted, report = {}, Report()
    for name, value in state_dict.items():
        if any(re.fullmatch(pattern, name) for pattern in _CONSTANTS):
            _check_constant(name, value)
            report.constants.append(name)
            continue
        new = new_name(name)
        if new is None:
            report.unexpected.append(name)
            continue
        if new.endswith('attn.rpe.table') or (
            new.startswith(('adversary.encoder.', 'adversary.decoder.')) and value.ndim == 3
        ):
            value = value.squeeze(0)  # the official tables have an axis of heads, shared: 1
        report.mapped[name] = new
        converted[new] = value
    return converted, report


def new_name(name: str) -> str | None:
    """Our name for an official parameter, or None."""
    for pattern, replacement in _RULES:
        match = re.fullmatch(pattern, name)
        if match:
            return match.expand(replacement)
    return None


def _check_constant(name: str, value: Tensor) -> None:
    if name.endswith('no_shift'):
        expected = torch.zeros_like(value)
    else:
        side = round((value.shape[1] - 1) ** 0.5)
        if side * side != value.shape[1] - 1:
            return  # rows and columns are not known here; the positions are computed anyway
        expected = sincos_position_grid((side, side), value.shape[2])
    if not torch.allclose(value.float(), expected, atol=1e-4):
        raise ValueError(
            f"'{name}' is not the constant of the published method, so this checkpoint would "
            'behave differently here'
        )


def infer_config(state_dict: dict[str, Tensor]) -> dict:
    """Config of the `MAEPlus` that a converted state dict fits, sizes read off its arrays.

    No array tells the number of heads without iRPE, and none depends on it: it is 1 then.

    Args:
        state_dict: Weights under our names.

    Returns:
        Config for `MODELS.build`; the grid is taken to be square.

    Raises:
        ValueError: If arrays are missing that every pretraining network has.
    """
    needed = ('backbone.patch_embed.projection.weight', 'neck.embed.weight', 'backbone.pos_embed')
    missing = [name for name in needed if name not in state_dict]
    if missing:
        raise ValueError(f'this is no pretraining checkpoint: it lacks {missing}')
    width, channels, patch_size = state_dict['backbone.patch_embed.projection.weight'].shape[:3]
    decoder_width = state_dict['neck.embed.weight'].shape[0]
    hidden = state_dict['backbone.layers.0.ffn.layers.0.0.weight'].shape[0]
    decoder_hidden = state_dict['neck.layers.0.ffn.layers.0.0.weight'].shape[0]
    side = round((state_dict['backbone.pos_embed'].shape[1] - 1) ** 0.5)
    table = state_dict.get('backbone.layers.0.attn.rpe.table')
    return dict(
        type='adpe_mm.MAEPlus',
        backbone=dict(
            type='adpe_mm.AdPEPretrainViT',
            arch=dict(
                embed_dims=width,
                num_layers=_count(state_dict, 'backbone'),
                num_heads=_heads(state_dict, 'backbone', width),
                feedforward_channels=hidden,
            ),
            img_size=side * patch_size,
            patch_size=patch_size,
            in_channels=channels,
            position='ape' if table is None else 'rpe',
            rpe_lookup=infer_lookup(state_dict),
        ),
        neck=dict(
            type='adpe_mm.AdPEDecoder',
            embed_dims=decoder_width,
            num_layers=_count(state_dict, 'neck'),
            num_heads=_heads(state_dict, 'neck', decoder_width),
            feedforward_ratio=decoder_hidden / decoder_width,
        ),
        adversary=infer_adversary(state_dict),
    )


def _heads(state_dict: dict[str, Tensor], part: str, width: int) -> int:
    """Number of heads, which iRPE's table of one head's width tells."""
    table = state_dict.get(f'{part}.layers.0.attn.rpe.table')
    return 1 if table is None else width // table.shape[0]


def _count(state_dict: Iterable[str], part: str) -> int:
    """Number of blocks of a part."""
    found = (re.match(rf'{part}\.layers\.(\d+)\.', name) for name in state_dict)
    return 1 + max(int(match[1]) for match in found if match)
