"""Reading checkpoints, and making sure that they fit."""

import argparse
import re
from collections.abc import Iterable
from pathlib import Path
from pickle import UnpicklingError

import torch
from mmengine.runner.checkpoint import get_torch_safe_globals
from torch import Tensor, nn


def load_weights(path: str | Path) -> dict[str, Tensor]:
    """Read the weights of a checkpoint, ours or another's, without running any code in it.

    Args:
        path: A file of `torch.save`: ``{'model': state_dict, ...}``, ``{'state_dict': ...}`` or
            the state dict itself.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read as weights only, or holds no weights.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no checkpoint '{path}'")
    try:
        # MAE's and AdPE's scripts save their argparse.Namespace beside the weights, mmengine
        # its message hub.
        with torch.serialization.safe_globals([argparse.Namespace, *get_torch_safe_globals()]):
            checkpoint = torch.load(path, map_location='cpu', weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(
            f"'{path}' cannot be read as weights only ({str(error).splitlines()[0]}): if you "
            "trust it, save {'model': state_dict} alone with torch.save and convert that"
        ) from None
    for key in ('model', 'state_dict'):
        if isinstance(checkpoint, dict) and isinstance(checkpoint.get(key), dict):
            checkpoint = checkpoint[key]
    if not isinstance(checkpoint, dict) or not any(torch.is_tensor(v) for v in checkpoint.values()):
        raise ValueError(f"'{path}' holds no state dict under 'model' or 'state_dict'")
    return {name.removeprefix('module.'): value for name, value in checkpoint.items()}


def check_fits(
    model: nn.Module, state_dict: dict[str, Tensor], allowed: Iterable[str] = ()
) -> None:
    """Make sure that weights are those of a model, name by name and shape by shape.

    Absolute positions may have another grid: the backbone resizes them.

    Args:
        model: The network to load into.
        state_dict: The weights; a leading ``module.`` (of DDP) is ignored.
        allowed: Regular expressions of whole names that may be missing or unexpected.

    Raises:
        ValueError: If anything is missing, unexpected, or of another shape.
    """
    given = {name.removeprefix('module.'): value for name, value in state_dict.items()}
    expected = model.state_dict()

    def not_allowed(names: set[str]) -> list[str]:
        return sorted(n for n in names if not any(re.fullmatch(p, n) for p in allowed))

    problems = {
        'missing': not_allowed(set(expected) - set(given)),
        'unexpected': not_allowed(set(given) - set(expected)),
        'of another shape': [
            f'{name} {tuple(given[name].shape)} instead of {tuple(value.shape)}'
            for name, value in expected.items()
            if name in given
            and given[name].shape != value.shape
            and not (name.endswith('pos_embed') and given[name].shape[-1] == value.shape[-1])
        ],
    }
    if any(problems.values()):
        listed = '; '.join(
            f'{len(names)} {kind}: {", ".join(names[:4])}{", ..." if len(names) > 4 else ""}'
            for kind, names in problems.items()
            if names
        )
        raise ValueError(
            f'the checkpoint holds another network than the config describes ({listed}): use the '
            'config that it was made with, or another checkpoint'
        )
