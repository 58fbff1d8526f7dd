"""What a run leaves: whether it equals that of another run, and whether anything is too much."""

import json
import math
import re
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

from adpe_mm.checkpoints import find_resumable, read_checkpoint
from adpe_mm.errors import UserError

# Of the message hub and the logs: clocks, memory, what a stop leaves in the checkpoints, and which
# iteration was begun last (none, in a validation that a resumed run makes up for).
_VOLATILE = r'.*time|eta|memory|cfg|experiment_name|(stopped|outdated)_ckpt|iter|epoch'
_SHARED_MEMORY = Path('/dev/shm')


def unreadable(work_dir: Path) -> list[str]:
    """Checkpoints that cannot be read, and the reason if there is none to go on from."""
    broken = []
    for path in sorted(work_dir.glob('*.pth')):
        try:
            read_checkpoint(path, 'meta')
        except UserError as error:
            broken.append(str(error))
    try:
        remark = find_resumable(work_dir)[1]
    except UserError as error:
        remark = str(error)
    return broken + ([remark] if remark and not _never_named(work_dir) else [])


def _never_named(work_dir: Path) -> bool:
    """Whether the first checkpoint is there and the file that is to name it not yet."""
    regular = [path for path in work_dir.glob('*.pth') if not path.name.startswith('best_')]
    return not (work_dir / 'last_checkpoint').exists() and len(regular) == 1


def left_over(work_dir: Path, temporary: Path, before: set[str], first: int) -> list[str]:
    """Files that are of no use to anybody.

    Args:
        work_dir: Of a run that has ended by itself.
        temporary: Its folder for temporary files.
        before: What was in the shared memory before.
        first: Process id below which are processes of others.
    """
    left = [f'{path.name} in the work dir' for path in work_dir.glob('.*')]
    left += [f'{path.name} of the temporary files' for path in temporary.iterdir()]
    for name in shared_memory() - before:
        owner = re.match(r'torch_(\d+)_', name)
        if owner and int(owner[1]) >= first and not Path('/proc', owner[1]).exists():
            left.append(f'{name} in the shared memory')
    return left


def shared_memory() -> set[str]:
    """Names of what is in the shared memory."""
    return {path.name for path in _SHARED_MEMORY.iterdir()} if _SHARED_MEMORY.is_dir() else set()


def differences(work_dir: Path, reference: Path, exact: bool = True) -> list[str]:
    """In what the end of a run differs from that of another one.

    Compared are the checkpoints by their names; the last one and the best one bit for bit, but for
    clocks: weights, their average, and of the last one the optimiser's state, schedules, and the
    message hub; every loss and every metric that was logged; and the names of drawings.

    Args:
        work_dir: Of the one.
        reference: Of the other.
        exact: If not, numbers may differ by what rounding makes of another order of summands.
    """
    found: list[str] = []
    files, expected = ({p.name for p in d.glob('*.pth')} for d in (work_dir, reference))
    if files != expected:
        found.append(f'checkpoints {sorted(files)} instead of {sorted(expected)}')
    pointer = (reference / 'last_checkpoint').read_text()
    for name in sorted({Path(pointer).name, *(n for n in expected if n.startswith('best'))}):
        if name in files:
            ends = [_without_clocks(read_checkpoint(d / name)) for d in (work_dir, reference)]
            found += [f'{name}: {where}' for where in _compare(*ends, '', exact)]
    ours, theirs = logged(work_dir), logged(reference)
    missing = theirs.keys() - ours.keys()
    if missing:
        found.append(f'not logged: {sorted(missing)[:3]}')
    for key in sorted(ours.keys() & theirs.keys()):
        if not all(_close(value, theirs[key][0], exact) for value in ours[key]):
            found.append(f'{key} is {ours[key]} instead of {theirs[key]}')
    drawn, wanted = ({p.name for p in d.rglob('*.png')} for d in (work_dir, reference))
    if drawn != wanted:
        found.append(f'drawings {sorted(drawn)} instead of {sorted(wanted)}')
    return found


def logged(work_dir: Path) -> dict[str, list[float]]:
    """Each number that was logged, by its name and the iteration: all that it ever was."""
    values: dict[str, list[float]] = {}
    for path in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in path.read_text(encoding='utf-8').splitlines():
            entries = json.loads(line)
            for name, value in entries.items():
                if not re.fullmatch(_VOLATILE, name):
                    known = values.setdefault(f'{name} at {entries.get("step")}', [])
                    if not any(_close(value, other, True) for other in known):
                        known.append(value)
    return values


def _close(a: float, b: float, exact: bool) -> bool:
    if not isinstance(a, float | int) or not isinstance(b, float | int):
        return a == b
    return (
        a == b
        or math.isnan(a)
        and math.isnan(b)
        or (not exact and math.isclose(a, b, rel_tol=1e-3, abs_tol=1e-4))
    )


def _without_clocks(checkpoint: dict) -> dict:
    """What of a checkpoint a resumed run should have in common with one that was never stopped."""
    hub = checkpoint.pop('message_hub')
    meta = checkpoint.pop('meta')
    checkpoint['iter'], checkpoint['seed'] = meta['iter'], meta['seed']
    if 'optimizer' not in checkpoint:  # the best one, from which no run goes on
        return checkpoint
    for part in ('log_scalars', 'runtime_info'):
        checkpoint[part] = {
            key: Path(value).name if key.endswith('_ckpt') and value else value
            for key, value in hub[part].items()
            if not re.fullmatch(_VOLATILE, key)
        }
    return checkpoint


def _compare(a: object, b: object, where: str, exact: bool) -> list[str]:
    """Where two values differ."""
    if isinstance(a, HistoryBuffer) and isinstance(b, HistoryBuffer):
        return _compare(a.data, b.data, where, exact)
    if type(a) is not type(b):
        return [f'{where} is a {type(a).__name__} instead of a {type(b).__name__}']
    if isinstance(a, dict):
        if a.keys() != b.keys():
            return [f'{where} has other keys: {sorted(map(str, a.keys() ^ b.keys()))}']
        return [d for key in a for d in _compare(a[key], b[key], f'{where}.{key}', exact)]
    if isinstance(a, list | tuple):
        if len(a) != len(b):
            return [f'{where} has {len(a)} entries instead of {len(b)}']
        pairs = enumerate(zip(a, b, strict=True))
        return [d for i, (x, y) in pairs for d in _compare(x, y, f'{where}[{i}]', exact)]
    if isinstance(a, torch.Tensor):
        if a.is_floating_point() and not exact:
            same = a.shape == b.shape and torch.allclose(a, b, rtol=1e-3, atol=1e-4, equal_nan=True)
        else:
            same = a.dtype == b.dtype and torch.equal(a, b)
    elif isinstance(a, np.ndarray):
        same = (
            np.array_equal(a, b, equal_nan=True) if exact else np.allclose(a, b, 1e-3, 1e-4, True)
        )
    elif isinstance(a, float):
        same = _close(a, b, exact)
    else:
        same = a == b
    return [] if same else [f'{where} differs']
