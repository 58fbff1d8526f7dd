"""Files that appear whole or not at all."""

import io
import json
import os
import zipfile
from pathlib import Path

import safetensors.torch
import torch
from mmengine.fileio import LocalBackend, register_backend

from adpe_mm.errors import MissingFile, UserError

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


def check_resumable(work_dir: str | Path, path: str | None = None) -> None:
    """Make sure that there is a whole checkpoint to resume from.

    Args:
        work_dir: Folder of the run.
        path: The checkpoint; None if it is the newest of `work_dir`, by the name in its file
            ``last_checkpoint``. Without that file the run starts from the beginning, as mmengine
            does: so one command serves the first and every later submission of a job.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If it is not whole, or holds weights only.
    """
    pointer = Path(work_dir, 'last_checkpoint')
    advice = 'name another one with --resume PATH'
    if path is None:
        if not pointer.is_file():
            return
        path = pointer.read_text(encoding='utf-8').strip()
        advice += f', or remove {pointer} to start from the beginning'
    if is_safetensors(path):
        raise UserError(
            f"'{path}' holds weights only, and resuming needs the optimiser's state too: resume "
            'from a .pth file, or start a new run from these weights with load_from'
        )
    if '://' in path:  # only local files can be looked at cheaply
        return
    if not Path(path).is_file():
        raise MissingFile(f"the checkpoint to resume from, '{path}', is gone: {advice}")
    # A zip archive ends with its table of contents: what was cut off has none.
    if not zipfile.is_zipfile(path):
        raise UserError(f"the checkpoint to resume from, '{path}', is not whole: {advice}")
