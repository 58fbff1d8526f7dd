"""The backbone of a checkpoint of ours, for other libraries."""

import re
from pathlib import Path

from torch import Tensor

from .checkpoint import load_weights

# What pretraining has and the backbone of other tasks has not.
LEFT_BEHIND = r'(neck|adversary|data_preprocessor)\..*|backbone\.mask_token'
_TIMM = [
    (r'patch_embed\.projection\.', 'patch_embed.proj.'),
    (r'layers\.(\d+)\.ln1\.', r'blocks.\1.norm1.'),
    (r'layers\.(\d+)\.ln2\.', r'blocks.\1.norm2.'),
    (r'layers\.(\d+)\.ffn\.layers\.0\.0\.', r'blocks.\1.mlp.fc1.'),
    (r'layers\.(\d+)\.ffn\.layers\.1\.', r'blocks.\1.mlp.fc2.'),
    (r'layers\.(\d+)\.attn\.', r'blocks.\1.attn.'),
    (r'ln1\.', 'norm.'),
    (r'ln2\.', 'fc_norm.'),
]


def load_backbone(path: str | Path) -> tuple[dict[str, Tensor], list[str]]:
    """Read the backbone with absolute positions out of a checkpoint, without running code in it.

    Args:
        path: Checkpoint of pretraining, or of a classifier.

    Returns:
        Weights of `AdPEViT` without a prefix, and the names of what was left behind.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read as weights only, has no backbone, or has relative
            positions, which the other libraries lack.
    """
    weights = load_weights(path)
    names = [name for name in weights if name.startswith('backbone.')]
    if not names:
        raise ValueError(f"'{path}' holds no weights named backbone.*")
    if any(name.endswith('attn.rpe.table') for name in names):
        raise ValueError(
            f"'{path}' has relative positions (iRPE), which timm and mmpretrain do not have: only "
            'networks with absolute positions can be exported'
        )
    kept = {
        name.removeprefix('backbone.'): weights[name]
        for name in names
        if not re.fullmatch(LEFT_BEHIND, name)
    }
    return kept, [name for name in weights if name.removeprefix('backbone.') not in kept]


def to_timm(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names of timm's `VisionTransformer` for the weights of an `AdPEViT`."""
    renamed = {}
    for name, value in weights.items():
        for pattern, replacement in _TIMM:
            new, matches = re.subn('^' + pattern, replacement, name)
            if matches:
                name = new
                break
        renamed[name] = value
    return renamed
