"""What a checkpoint is of, told by the names and shapes of its arrays."""

import re
from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from .reading import file_hash

# What pretraining has; a checkpoint of another task has a head besides.
PRETRAINING = r'(backbone|neck|adversary|data_preprocessor)\..*'


def is_pretraining(names: Iterable[str]) -> bool:
    """Whether arrays of these names are of pretraining: a backbone, and no head."""
    names = list(names)
    return any(n.startswith('backbone.') for n in names) and all(
        re.fullmatch(PRETRAINING, n) for n in names
    )


def describe_pretraining(weights: dict[str, Tensor]) -> dict[str, str | None]:
    """Which row of the paper's table a pretraining checkpoint belongs to, told by its arrays.

    Args:
        weights: A state dict of `MAEPlus`, of mmpretrain's `MAE`, or a converted one.

    Returns:
        ``method``, 'AdPE', 'MAE+' or 'MAE', and ``variant`` such as 'RPE coordinate'; None for
        MAE.
    """
    position = 'RPE' if any(name.endswith('attn.rpe.table') for name in weights) else 'APE'
    if any(name.startswith('adversary.') for name in weights):
        mode = (infer_adversary(weights) or dict(mode='of its own'))['mode']
        return dict(method='AdPE', variant=f'{position} {mode}')
    if 'backbone.mask_token' in weights:  # it enters the encoder
        return dict(method='MAE+', variant=position)
    return dict(method='MAE', variant=None)


def describe_origin(path: str | None, weights: dict[str, Tensor]) -> dict[str, str | None]:
    """`describe_pretraining`, with ``checkpoint``, the path, and ``sha256`` of a local file."""
    known = path is not None and Path(path).is_file()
    return dict(
        describe_pretraining(weights), checkpoint=path, sha256=file_hash(path) if known else None
    )


def infer_backbone(state_dict: dict[str, Tensor]) -> dict:
    """Arguments of the `AdPEViT` that a converted state dict fits, sizes read off its arrays.

    No array tells the number of heads without iRPE, and none depends on it: it is 1 then.

    Args:
        state_dict: Weights under our names.

    Returns:
        ``arch``, ``img_size``, ``patch_size``, ``in_channels``, ``position`` and ``rpe_lookup``;
        the grid is taken to be square.

    Raises:
        ValueError: If arrays are missing that every backbone has.
    """
    _require(state_dict, 'backbone.patch_embed.projection.weight', 'backbone.pos_embed')
    width, channels, patch_size = state_dict['backbone.patch_embed.projection.weight'].shape[:3]
    side = round((state_dict['backbone.pos_embed'].shape[1] - 1) ** 0.5)
    return dict(
        arch=dict(
            embed_dims=width,
            num_layers=_count(state_dict, 'backbone'),
            num_heads=_heads(state_dict, 'backbone', width),
            feedforward_channels=_hidden(state_dict, 'backbone'),
        ),
        img_size=side * patch_size,
        patch_size=patch_size,
        in_channels=channels,
        position='rpe' if 'backbone.layers.0.attn.rpe.table' in state_dict else 'ape',
        rpe_lookup=infer_lookup(state_dict),
    )


def infer_config(state_dict: dict[str, Tensor]) -> dict:
    """Config of the `MAEPlus` that a converted state dict fits: see `infer_backbone`.

    Args:
        state_dict: Weights under our names.

    Returns:
        Config for `MODELS.build`.

    Raises:
        ValueError: If arrays are missing that every pretraining network has.
    """
    _require(state_dict, 'neck.embed.weight')
    width = state_dict['neck.embed.weight'].shape[0]
    return dict(
        type='adpe_mm.MAEPlus',
        backbone=dict(infer_backbone(state_dict), type='adpe_mm.AdPEPretrainViT'),
        neck=dict(
            type='adpe_mm.AdPEDecoder',
            embed_dims=width,
            num_layers=_count(state_dict, 'neck'),
            num_heads=_heads(state_dict, 'neck', width),
            feedforward_ratio=_hidden(state_dict, 'neck') / width,
        ),
        adversary=infer_adversary(state_dict),
    )


def _require(state_dict: dict[str, Tensor], *names: str) -> None:
    missing = [name for name in names if name not in state_dict]
    if missing:
        raise ValueError(f'this is no pretraining checkpoint: it lacks {missing}')


def infer_adversary(weights: dict[str, Tensor]) -> dict | None:
    """Which adversary a pretraining network has, told by its arrays.

    Args:
        weights: A state dict of `MAEPlus`.

    Returns:
        Config of the adversary, or None if it has none of `adpe_mm/models/adversaries.py`.
    """
    param = weights.get('adversary.ape', weights.get('adversary.encoder.0'))
    if param is None:
        return None
    config = dict(type='adpe_mm.AdversarialPosition')
    if param.ndim == 1:  # a shift
        return dict(config, mode='coordinate')
    if param.ndim == 2:  # (D, buckets)
        config['per_bucket'] = param.shape[1] != 1
    return dict(config, mode='embedding')


def infer_lookup(weights: dict[str, Tensor]) -> str:
    """The look-up of iRPE that the adversary of a pretraining network needs, told by its arrays.

    Args:
        weights: A state dict of `MAEPlus`.

    Returns:
        'interpolate' for shifted offsets, else 'bucket'.
    """
    shift = weights.get('adversary.encoder.0')
    return 'interpolate' if shift is not None and shift.ndim == 1 else 'bucket'


def _heads(state_dict: dict[str, Tensor], part: str, width: int) -> int:
    """Number of heads, which iRPE's table of one head's width tells."""
    table = state_dict.get(f'{part}.layers.0.attn.rpe.table')
    return 1 if table is None else width // table.shape[0]


def _hidden(state_dict: dict[str, Tensor], part: str) -> int:
    """Width of a part's feed-forward networks."""
    return state_dict[f'{part}.layers.0.ffn.layers.0.0.weight'].shape[0]


def _count(state_dict: Iterable[str], part: str) -> int:
    """Number of blocks of a part."""
    found = (re.match(rf'{part}\.layers\.(\d+)\.', name) for name in state_dict)
    return 1 + max(int(match[1]) for match in found if match)
