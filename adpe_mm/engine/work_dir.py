"""One run per work dir, and nothing left of those that were killed in it."""

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mmengine.dist import is_main_process

from adpe_mm.checkpoints import remove_leftovers
from adpe_mm.errors import UserError
from adpe_mm.processes import on_main

NAME = '.run.lock'
BEAT = 10.0  # seconds between two signs of life
PATIENCE = 45.0  # seconds without one, after which a run on another machine is gone
SETTLED = 0.5  # seconds after which nobody else still believes that the lock is free


@contextmanager
def own_work_dir(work_dir: str | Path) -> Iterator[None]:
    """Have a folder for one run, and remove what killed processes left half-written in it.

    All processes of the run call it; process 0 has a file ``.run.lock`` there meanwhile. A second
    run is told who has it. One that was killed loses it at once to its successor on the same
    machine, and after `PATIENCE` to one elsewhere: its file is touched no more. No lock of the file
    system is used, as network file systems do not all have them.

    Args:
        work_dir: The folder; made if there is none.

    Raises:
        UserError: If another run has it.
    """
    lock = Path(work_dir) / NAME
    mine = dict(_this_process(), since=time.strftime('%Y-%m-%d %H:%M:%S'))
    done = threading.Event()
    try:
        on_main(lambda: _take(lock, mine))
        if is_main_process():
            remove_leftovers(work_dir)
            threading.Thread(target=_keep, args=(lock, done), daemon=True).start()
        yield
    finally:
        done.set()
        if is_main_process() and _read(lock) == mine:
            lock.unlink(missing_ok=True)


def _take(lock: Path, mine: dict) -> None:
    """Make the file, or take it over from a run that is gone; `mine` is written into it."""
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"the work dir '{lock.parent}' cannot be made ({error.strerror}): name another one "
            'with --work-dir'
        ) from error
    text = json.dumps(mine)
    while True:
        with suppress(FileExistsError), open(lock, 'x', encoding='utf-8') as file:
            try:
                file.write(text)
            except BaseException:  # a signal, say: half of it would be nobody's
                lock.unlink()
                raise
            return
        holder = _read(lock)
        if holder == mine:
            return
        if _lives(lock, holder):
            raise UserError(
                f"'{lock.parent}' belongs to another run, process {holder.get('process')} on "
                f'{holder.get("host")} since {holder.get("since")}: end that one, or give this one '
                'another --work-dir'
            )
        # Whoever comes last has it: after a while no other can still come.
        new = lock.with_name(f'{NAME}.{mine["host"]}.{os.getpid()}.tmp')
        new.write_text(text, encoding='utf-8')
        if _read(lock) != holder:
            new.unlink()
            continue
        os.replace(new, lock)
        time.sleep(SETTLED)


def _read(lock: Path) -> dict | None:
    """What the file says; empty if it says nothing yet, None if there is none."""
    try:
        return json.loads(lock.read_text(encoding='utf-8'))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        return {}


def _keep(lock: Path, done: threading.Event) -> None:
    while not done.wait(BEAT):
        with suppress(OSError):
            os.utime(lock)


def _lives(lock: Path, holder: dict | None) -> bool:
    """Whether the run that has the lock still lives."""
    if holder is None:
        return False
    here = _this_process()
    if all(holder.get(name) == here[name] for name in ('host', 'boot', 'namespace')):
        return _started(holder['process']) == holder['started'] is not None
    # On another machine, or in a container that cannot see it.
    print(
        f"'{lock.parent}' was used on {holder.get('host')}: waiting {PATIENCE:g} s for a sign of "
        'life',
        file=sys.stderr,
    )
    first, end = _touched(lock), time.monotonic() + PATIENCE
    while time.monotonic() < end:
        time.sleep(min(1, PATIENCE / 10))
        if _touched(lock) != first:
            return True
    return False


def _touched(lock: Path) -> int | None:
    """When the file was touched last; opened, so that a network file system asks its server."""
    try:
        with open(lock, 'rb') as file:
            return os.fstat(file.fileno()).st_mtime_ns
    except FileNotFoundError:
        return None


def _this_process() -> dict:
    """What tells this process from all others, on this machine and elsewhere."""
    boot, namespace = Path('/proc/sys/kernel/random/boot_id'), Path('/proc/self/ns/pid')
    return dict(
        host=socket.gethostname(),
        boot=boot.read_text().strip() if boot.exists() else None,
        namespace=os.readlink(namespace) if namespace.is_symlink() else None,
        process=os.getpid(),
        started=_started(os.getpid()),
    )


def _started(process: int) -> str | None:
    """When a process of this machine started, in ticks since it booted; None if there is none.

    Where there is no /proc, '0' of any that lives.
    """
    try:
        # After the name, which may have spaces: the state, and 19 fields later the start.
        fields = Path(f'/proc/{process}/stat').read_text().rpartition(')')[2].split()
        return None if fields[0] in 'ZX' else fields[19]
    except FileNotFoundError:
        if Path('/proc/self').exists():
            return None
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return '0'
