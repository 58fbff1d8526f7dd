"""Reading checkpoints, ours and others', without running any code in them."""

import argparse
import hashlib
from pathlib import Path
from pickle import UnpicklingError
from urllib.parse import urlparse

import torch
from mmengine.runner.checkpoint import get_torch_safe_globals
from torch import Tensor


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


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while part := file.read(2**20):
            digest.update(part)
    return digest.hexdigest()
