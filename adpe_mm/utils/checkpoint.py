"""Reading checkpoints, and making sure that they fit."""

import argparse
import re
from collections.abc import Iterable
from pathlib import Path
from pickle import UnpicklingError
from urllib.parse import urlparse

import torch
from mmengine.runner.checkpoint import get_torch_safe_globals
from torch import Tensor, nn

# What pretraining has; a checkpoint of another task has a head besides.
PRETRAINING = r'(backbone|neck|adversary|data_preprocessor)\..*'


def read_checkpoint(path: str | Path, map_location: str = 'cpu') -> dict:
    """Read a checkpoint, ours or another's, without running any code in it.

    Args:
        path: A file of `torch.save`, or its http(s) address, whose copy is kept where torch.hub
            keeps its own.
        map_location: Device of the tensors.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds more than weights and numbers.
    """
    if str(path).startswith(('http://', 'https://')):
        path = _download(str(path))
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no checkpoint '{path}'")
    try:
        # MAE's and AdPE's scripts save their argparse.Namespace beside the weights, mmengine
        # its message hub, whose buffers need getattr. What that returns cannot be called: torch
        # calls nothing but what is listed.
        with torch.serialization.safe_globals([argparse.Namespace, *get_torch_safe_globals()]):
            checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(
            f"'{path}' cannot be read as weights only ({str(error).splitlines()[0]}): if you "
            "trust it, save {'model': state_dict} alone with torch.save and convert that"
        ) from None
    if not isinstance(checkpoint, dict):
        raise ValueError(f"'{path}' holds no state dict")
    return checkpoint


def _download(address: str) -> Path:
    path = Path(torch.hub.get_dir(), 'checkpoints', Path(urlparse(address).path).name)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(address, str(path))
        except OSError as error:
            raise FileNotFoundError(f"cannot download '{address}': {error}") from None
    return path


def find_weights(checkpoint: dict, path: str | Path = 'the checkpoint') -> dict[str, Tensor]:
    """The state dict of a checkpoint, without DDP's ``module.``.

    Args:
        checkpoint: ``{'model': state_dict, ...}``, ``{'state_dict': ...}`` or the state dict.
        path: Where it is from, for the message.

    Raises:
        ValueError: If there are no weights.
    """
    for key in ('model', 'state_dict'):
        if isinstance(checkpoint.get(key), dict):
            checkpoint = checkpoint[key]
    if not any(torch.is_tensor(value) for value in checkpoint.values()):
        raise ValueError(f"'{path}' holds no state dict under 'model' or 'state_dict'")
    return {name.removeprefix('module.'): value for name, value in checkpoint.items()}


def load_weights(path: str | Path) -> dict[str, Tensor]:
    """`find_weights` of `read_checkpoint`."""
    return find_weights(read_checkpoint(path), path)


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
    # Not at the top: the networks' own files import this one.
    from adpe_mm.models.adversaries import infer_adversary

    position = 'RPE' if any(name.endswith('attn.rpe.table') for name in weights) else 'APE'
    adversary = infer_adversary(weights)
    if adversary is not None:
        return dict(method='AdPE', variant=f'{position} {adversary["mode"]}')
    if 'backbone.mask_token' in weights:  # it enters the encoder
        return dict(method='MAE+', variant=position)
    return dict(method='MAE', variant=None)


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
