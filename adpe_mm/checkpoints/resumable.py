"""Finding the checkpoint that a run goes on from."""

from pathlib import Path

from adpe_mm.errors import MissingFile, UserError

from .reading import is_safetensors, load_pickle, read_checkpoint

POINTER = 'last_checkpoint'  # the file that names the newest checkpoint of a work dir


def find_resumable(work_dir: str | Path, path: str | None = None) -> tuple[str | None, str | None]:
    """The checkpoint to resume from: whole, unchanged, and with the optimiser's state.

    ``last_checkpoint`` names the newest. It may name a place that the work dir has been moved from:
    the file of that name beside it comes first. Where that one is gone or damaged, or where nothing
    names one, it is the newest good one in the work dir.

    Args:
        work_dir: Folder of the run.
        path: The checkpoint that was asked for; None for the newest of `work_dir`.

    Returns:
        Its path, None if `work_dir` holds no checkpoint at all: so one command serves the first
        and every later submission of a job. And what to say of it: why it is another than the
        newest, or None.

    Raises:
        FileNotFoundError: If the one that was asked for is gone.
        ValueError: If it is damaged or holds weights only; or if no good one is left.
    """
    if path is not None:
        _check(path)
        return path, None
    pointer, problem, newest = Path(work_dir, POINTER), None, None
    if pointer.is_file():
        named = pointer.read_text(encoding='utf-8', errors='replace').strip() or POINTER
        beside = Path(work_dir, Path(named).name)
        newest = beside if '://' not in named and beside.is_file() else named
        try:
            _check(newest)
            return str(newest), None
        except UserError as error:
            problem = str(error)
    others = [file for file in Path(work_dir).glob('*.pth') if file != newest]
    for other in sorted(others, key=_iteration, reverse=True):
        try:
            _check(other)
        except UserError:
            continue
        why = problem or f"there is no '{pointer}'"
        return str(other), f"{why}; resuming from the newest good checkpoint, '{other}'"
    if problem:
        raise UserError(
            f"{problem}; '{work_dir}' has no other to resume from: name one with --resume PATH, or "
            f"remove '{pointer}' to start from the beginning"
        )
    return None, None


def _check(path: str | Path) -> None:
    """Raise a `UserError` unless a run can go on from a checkpoint."""
    if '://' in str(path):  # only local files can be looked at cheaply
        return
    if not Path(path).exists():
        raise MissingFile(f"the checkpoint to resume from, '{path}', is gone")
    # Without the optimiser's state the run would go on as another one.
    if is_safetensors(path) or 'optimizer' not in read_checkpoint(path, 'meta'):
        raise UserError(
            f"'{path}' holds weights only, and resuming needs the optimiser's state too: resume "
            'from a .pth file of a run, or start a new run from these weights with load_from'
        )


def _iteration(path: Path) -> int:
    """How far a checkpoint has come; -1 if it cannot be read."""
    try:
        return int(load_pickle(path, 'meta')['meta']['iter'])
    except Exception:  # damaged in whatever way
        return -1
