"""Files that appear whole or not at all."""

import io
import json
import os
from pathlib import Path

import safetensors.torch
import torch
from mmengine.fileio import LocalBackend, register_backend

from .reading import find_weights, is_safetensors


class AtomicLocalBackend(LocalBackend):
    """mmengine's local files, except that whoever looks sees the old file or the whole new one.

    A config selects it with ``backend_args=dict(backend='adpe_mm_atomic')``.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes to a file beside the target, then put it in its place.

        A file left by a process that was killed has a name that the next attempt uses again.
        """
        path = Path(filepath)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f'.{path.name}.tmp')
        try:
            with open(temporary, 'wb') as file:
                file.write(obj)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        folder = os.open(path.parent, os.O_RDONLY)  # the new name must survive a power cut, too
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Like `put`, of a text."""
        self.put(obj.encode(encoding), filepath)


register_backend('adpe_mm_atomic', AtomicLocalBackend, force=True)


def write_checkpoint(checkpoint: dict, path: str | Path) -> None:
    """Write a checkpoint in the format that the name of the file asks for.

    Args:
        checkpoint: ``state_dict`` and ``meta``, or a state dict.
        path: A file of safetensors, which holds the weights and, as JSON, what of ``meta`` is plain
            data, if it ends with ``.safetensors``; else one of `torch.save`.
    """
    if is_safetensors(path):
        weights = {
            # A copy: tensors of safetensors share no memory.
            name: value.detach().clone(memory_format=torch.contiguous_format)
            for name, value in find_weights(checkpoint).items()
        }
        meta = json.dumps(_plain_part(checkpoint.get('meta') or {}))
        content = safetensors.torch.save(weights, dict(format='pt', meta=meta))
    else:
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        content = buffer.getvalue()
    AtomicLocalBackend().put(content, path)


def _plain_part(values: dict) -> dict:
    """What of a dict JSON can hold."""
    plain = {}
    for name, value in values.items():
        try:
            json.dumps(value)
        except TypeError:
            continue
        plain[name] = value
    return plain
