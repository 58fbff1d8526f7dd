"""Files that appear whole or not at all."""

import errno
import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import safetensors.torch
import torch
from mmengine.fileio import LocalBackend, register_backend

from adpe_mm.errors import MachineError, MissingFile, UserError

from .reading import find_weights, is_safetensors


class DiskFull(MachineError):
    """A file that does not fit on its disk. The one that it was to replace is still there."""


@contextmanager
def replacing(path: str | Path, size: int = 0) -> Iterator[IO[bytes]]:
    """Write a file that appears whole or not at all.

    A file left by a process that was killed has a name that the next attempt uses again, and that
    `remove_leftovers` knows.

    Args:
        path: The file, which is replaced when all is written and safe on the disk.
        size: Bytes that will be written at least.

    Yields:
        The file to write to, which has another name.

    Raises:
        DiskFull: If there is no room. Nothing is left of the attempt.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.name}.tmp')
    temporary.unlink(missing_ok=True)  # its space counts as free
    free = shutil.disk_usage(path.parent).free
    if free < size:
        raise DiskFull(
            f"'{path}' needs {size / 1e9:.3g} GB and its disk has {free / 1e9:.3g} GB: free some, "
            'or keep fewer checkpoints (default_hooks.checkpoint.max_keep_ckpts)'
        )
    try:
        with open(temporary, 'wb') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        # Torch raises an error of its own when it cannot end the archive in a file that failed.
        reason = _caused_by(error, errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        if reason is None:
            raise
        raise DiskFull(
            f"'{path}' does not fit on its disk ({reason.strerror}): free some space, or keep "
            'fewer checkpoints (default_hooks.checkpoint.max_keep_ckpts)'
        ) from error
    folder = os.open(path.parent, os.O_RDONLY)  # the new name must survive a power cut, too
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _caused_by(error: BaseException | None, *numbers: int) -> OSError | None:
    """Finds an error of the operating system among those that led to another."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in numbers:
            return error
        error = error.__cause__ or error.__context__
    return None


def remove_leftovers(folder: str | Path) -> None:
    """Remove what processes that were killed in `replacing` left in a folder."""
    for temporary in Path(folder).glob('.*.tmp'):
        temporary.unlink(missing_ok=True)


class AtomicLocalBackend(LocalBackend):
    """mmengine's local files, except that whoever looks sees the old file or the whole new one.

    A config selects it with ``backend_args=dict(backend='adpe_mm_atomic')``.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes to a file: see `replacing`."""
        with replacing(filepath, len(obj)) as file:
            file.write(obj)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Like `put`, of a text."""
        self.put(obj.encode(encoding), filepath)


register_backend('adpe_mm_atomic', AtomicLocalBackend, force=True)


def write_checkpoint(checkpoint: dict, path: str | Path) -> None:
    """Write a checkpoint in the format that the name of the file asks for.

    It goes straight to the disk, tensor by tensor, without a second copy in memory.

    Args:
        checkpoint: ``state_dict`` and ``meta``, or a state dict.
        path: A file of safetensors, which holds the weights and, as JSON, what of ``meta`` is plain
            data, if it ends with ``.safetensors``; else one of `torch.save`.

    Raises:
        DiskFull: If there is no room.
    """
    if not is_safetensors(path):
        with replacing(path, size_of(checkpoint)) as file:
            torch.save(checkpoint, file)
        return
    weights = {
        # A copy: tensors of safetensors share no memory.
        name: value.detach().clone(memory_format=torch.contiguous_format)
        for name, value in find_weights(checkpoint).items()
    }
    meta = json.dumps(_plain_part(checkpoint.get('meta') or {}))
    AtomicLocalBackend().put(safetensors.torch.save(weights, dict(format='pt', meta=meta)), path)


def size_of(values: object) -> int:
    """Bytes of all tensors in nested dicts and lists; of a memory that some share, once."""
    storages = {}

    def visit(part: object) -> None:
        if isinstance(part, torch.Tensor):
            storage = part.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
        elif isinstance(part, dict):
            for value in part.values():
                visit(value)
        elif isinstance(part, list | tuple):
            for value in part:
                visit(value)

    visit(values)
    return sum(storages.values())


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


def check_resumable(work_dir: str | Path, path: str | None = None) -> str | None:
    """Find the checkpoint to resume from, and make sure that it is whole.

    Args:
        work_dir: Folder of the run.
        path: The checkpoint; None if it is the newest of `work_dir`, by the name in its file
            ``last_checkpoint``. Without that file the run starts from the beginning, as mmengine
            does: so one command serves the first and every later submission of a job.

    Returns:
        Its path; None without such a file.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If it is not whole, or holds weights only.
    """
    pointer = Path(work_dir, 'last_checkpoint')
    advice = 'name another one with --resume PATH'
    if path is None:
        if not pointer.is_file():
            return None
        path = pointer.read_text(encoding='utf-8').strip()
        advice += f', or remove {pointer} to start from the beginning'
    if is_safetensors(path):
        raise UserError(
            f"'{path}' holds weights only, and resuming needs the optimiser's state too: resume "
            'from a .pth file, or start a new run from these weights with load_from'
        )
    if '://' in path:  # only local files can be looked at cheaply
        return path
    if not Path(path).is_file():
        raise MissingFile(f"the checkpoint to resume from, '{path}', is gone: {advice}")
    # A zip archive ends with its table of contents: what was cut off has none.
    if not zipfile.is_zipfile(path):
        raise UserError(f"the checkpoint to resume from, '{path}', is not whole: {advice}")
    return path
