"""Reading checkpoints, ours and others', without running any code in them."""

import argparse
import ast
import hashlib
import json
import re
from pathlib import Path
from pickle import UnpicklingError
from urllib.parse import urlparse

import torch
from mmengine.runner.checkpoint import CheckpointLoader, get_torch_safe_globals
from safetensors import SafetensorError, safe_open
from torch import Tensor

from adpe_mm.errors import MissingFile, UserError

from .lookups import add_lookup, find_lookup, has_irpe
from .trusting import check_whole

SAFETENSORS = '.safetensors'


def read_checkpoint(path: str | Path, map_location: str = 'cpu') -> dict:
    """Read a checkpoint, ours or another's, without running any code in it.

    Weights of ours from before the look-up of iRPE was kept in them get it here, where their config
    or their adversary tells it.

    Args:
        path: A file of `torch.save`, or of safetensors if its name ends with ``.safetensors``; or
            its http(s) address, whose copy is kept where torch.hub keeps its own.
        map_location: Device of the tensors.

    Returns:
        What was saved; of safetensors ``state_dict`` and ``meta``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, see `check_whole`, or holds more than weights and numbers.
    """
    if str(path).startswith(('http://', 'https://')):
        path = _download(str(path))
    read = _read_safetensors if is_safetensors(path) else _read_pickle
    checkpoint = read(path, map_location)
    _complete(checkpoint)
    return checkpoint


@CheckpointLoader.register_scheme(prefixes=('', r'.*\.safetensors$'), force=True)
def _load_for_mmengine(filename: str, map_location: str | None = None) -> dict:
    """What mmengine loads by itself: files, by `init_cfg` of a module that is not ours."""
    return read_checkpoint(Path(filename).expanduser(), map_location or 'cpu')


def is_safetensors(path: str | Path) -> bool:
    """Whether a file is one of safetensors, by its name."""
    return str(path).endswith(SAFETENSORS)


def _read_pickle(path: str | Path, map_location: str) -> dict:
    check_whole(path)
    try:
        checkpoint = load_pickle(path, map_location)
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # whatever torch raises for what is in a file
        code = re.search(r'GLOBAL ([\w.]+)', str(error))
        with open(path, 'rb') as file:
            archive = file.read(2) == b'PK'
        if isinstance(error, UnpicklingError) and (code or archive):
            # An archive is as it was written: what torch refuses is in it on purpose.
            held = code[1] if code else 'more than tensors and plain values'
            raise UserError(
                f"'{path}' cannot be read as weights only, as it holds {held} too, which could "
                "run code: save {'model': state_dict} alone where it was made, and use that file"
            ) from error
        raise UserError(
            f"'{path}' is no file of torch.save, or is damaged: copy it anew, or use another "
            'checkpoint'
        ) from error
    if not isinstance(checkpoint, dict):
        raise UserError(f"'{path}' holds no state dict")
    return checkpoint


def load_pickle(path: str | Path, map_location: str) -> object:
    """What `torch.load` reads, and nothing that would have to be run."""
    # MAE's and AdPE's scripts save their argparse.Namespace beside the weights, mmengine its
    # message hub, whose buffers need getattr. What that returns cannot be called: torch calls
    # nothing but what is listed.
    with torch.serialization.safe_globals([argparse.Namespace, *get_torch_safe_globals()]):
        return torch.load(path, map_location=map_location, weights_only=True)


def _read_safetensors(path: str | Path, map_location: str) -> dict:
    if not Path(path).is_file():
        raise MissingFile(f"there is no checkpoint '{path}'")
    try:
        with safe_open(path, 'pt') as file:
            names = file.keys()
            weights = {name: file.get_tensor(name).to(map_location) for name in names}
            meta = json.loads((file.metadata() or {}).get('meta', '{}'))
    except (SafetensorError, json.JSONDecodeError) as error:
        raise UserError(
            f"'{path}' is damaged, or no file of safetensors ({error}): copy or convert it anew"
        ) from None
    return dict(state_dict=weights, meta=meta)


def _complete(checkpoint: dict) -> None:
    """Write the look-up of iRPE into weights that lack it, if anything tells which it is."""
    parts = [checkpoint.get(key) for key in ('state_dict', 'ema_state_dict', 'model')]
    parts = [part for part in (*parts, checkpoint) if isinstance(part, dict) and has_irpe(part)]
    if not parts:
        return
    backbone = read_config(checkpoint).get('backbone')
    lookup = find_lookup(parts[0])
    if lookup is None and backbone is not None:
        lookup = backbone.get('rpe_lookup', 'bucket')  # the default of that time
    if lookup is not None:
        for part in parts:
            add_lookup(part, lookup)


def read_config(checkpoint: dict) -> dict:
    """The config of the network in a checkpoint of ours or of mmengine.

    The checkpoint has the text of the config: its literals are read, and nothing in it runs.

    Returns:
        Plain ``cfg.model``; empty if there is none, or if it is no plain data.
    """
    return read_settings(checkpoint).get('model') or {}


def read_settings(checkpoint: dict) -> dict:
    """What of the config in a checkpoint of ours or of mmengine is plain data, by name."""
    text = (checkpoint.get('meta') or {}).get('cfg')
    settings = {}
    try:
        statements = ast.parse(text if isinstance(text, str) else '').body
    except (SyntaxError, ValueError):
        return settings
    for statement in statements:
        if isinstance(statement, ast.Assign):
            try:
                settings[ast.unparse(statement.targets[0])] = _plain(statement.value)
            except ValueError:
                continue  # no literals
    return settings


def _plain(node: ast.expr) -> object:
    """The value of an expression of literals and ``dict(key=...)``; a ValueError for others."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) == 'dict' and not node.args:
        return {entry.arg: _plain(entry.value) for entry in node.keywords}
    if isinstance(node, ast.Dict):
        keys = map(_plain, node.keys)
        return dict(zip(keys, map(_plain, node.values), strict=True))
    if isinstance(node, ast.List):
        return [_plain(entry) for entry in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_plain(entry) for entry in node.elts)
    return ast.literal_eval(node)


def _download(address: str) -> Path:
    path = Path(torch.hub.get_dir(), 'checkpoints', Path(urlparse(address).path).name)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(address, str(path))
        except OSError as error:
            raise MissingFile(f"cannot download '{address}': {error}") from None
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
        raise UserError(f"'{path}' holds no state dict under 'model' or 'state_dict'")
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
