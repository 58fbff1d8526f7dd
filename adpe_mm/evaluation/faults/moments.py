"""Moments of a training at which it can be killed or stopped, told by what it is about to do.

The *events* of a process are the points at which mmengine calls hooks, and every opening, writing,
fsync, renaming and removal of a file in the work dir, each with the iteration that it is of. Each
process writes its own down, so that those of a run without faults tell which there are.
"""

import builtins
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from adpe_mm.engine import AdPERunner
from adpe_mm.evaluation.faults.forking import family

# Of the environment: a folder that processes write to about themselves, and a fault as JSON.
ABOUT, FAULT = 'ADPE_FAULTS_ABOUT', 'ADPE_FAULT'
WORKER = 'a worker of its loader'
ALL = 'all processes'
LAUNCHER = 'the launcher'


@dataclass(frozen=True)
class Fault:
    """A signal to some processes of a run, at a moment of it.

    Attributes:
        signal: Name of the signal.
        whom: `ALL`, `LAUNCHER`, `WORKER`, or ``process 1``.
        rank: Process whose event is the moment.
        event: The event; None if the moment is a time.
        occurrence: Which one of the events of that name, from 1.
        seconds: The time, since the run was started.
    """

    signal: str
    whom: str
    rank: int = 0
    event: str | None = None
    occurrence: int = 1
    seconds: float = 0.0

    @property
    def kills(self) -> bool:
        """Whether the processes have no chance to save."""
        return self.signal == 'SIGKILL'

    def __str__(self) -> str:
        if self.event is None:
            return f'{self.signal} to {self.whom} {self.seconds:.2f} s after its start'
        again = f' for the {self.occurrence}. time' if self.occurrence > 1 else ''
        return f'{self.signal} to {self.whom} as process {self.rank} does "{self.event}"{again}'

    def to_json(self) -> str:
        """Text for the environment of a run."""
        return json.dumps(asdict(self))

    def send(self, about: Path, ancestor: int) -> None:
        """Send it now.

        Args:
            about: See `ABOUT`.
            ancestor: Process that all of the run descend from.
        """
        receivers = self._receivers(about, ancestor)
        if receivers:
            (about / 'sent').write_text(str(time.monotonic()), encoding='utf-8')
        # This process last: of SIGKILL it ends here.
        for process in sorted(receivers, key=os.getpid().__eq__):
            with suppress(ProcessLookupError):
                os.kill(process, getattr(signal, self.signal))

    def _receivers(self, about: Path, ancestor: int) -> list[int]:
        if self.whom == ALL:
            return list(family(ancestor))
        names = (LAUNCHER, f'process {self.rank}', self.whom)
        ids = {n: int((about / n).read_text()) for n in names if (about / n).exists()}
        if self.whom == WORKER:
            return list(family(ids.get(f'process {self.rank}', -1)))[:1]
        return [ids[self.whom]] if self.whom in ids else []


def watch(work_dir: Path, ancestor: int) -> None:
    """In a process that is about to train: count its events, and let the fault happen.

    Args:
        work_dir: Folder whose files count.
        ancestor: Process that all of the run descend from.
    """
    about, rank = Path(os.environ[ABOUT]), int(os.environ.get('RANK', '0'))
    (about / f'process {rank}').write_text(str(os.getpid()), encoding='utf-8')
    fault = Fault(**json.loads(os.environ[FAULT])) if FAULT in os.environ else None
    record = os.open(about / f'events {rank}', os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    trainer, seen, iteration = os.getpid(), Counter(), 0

    def happens(what: str) -> bool:
        """Count an event; whether the fault is at it."""
        if os.getpid() != trainer:  # a worker
            return False
        what = f'{what} at {iteration}'
        os.write(record, f'{what}\n'.encode())
        seen[what] += 1
        moment = (rank, what, seen[what])
        return fault is not None and moment == (fault.rank, fault.event, fault.occurrence)

    def event(what: str) -> None:
        if happens(what):
            fault.send(about, ancestor)

    def write(file, data, name: str) -> int:
        if not happens(f'write {name}'):
            return file.write(data)
        done = file.write(data[: len(data) // 2])  # half of it is on the disk
        file.flush()
        fault.send(about, ancestor)
        return done + file.write(data[len(data) // 2 :])

    def hook(name: str, runner: AdPERunner) -> None:
        nonlocal iteration
        iteration = runner.iter
        event(f'hook {name}')

    _watch_hooks(hook)
    _watch_files(work_dir, event, write)


def _watch_hooks(hook: Callable[[str, AdPERunner], None]) -> None:
    call_hook = AdPERunner.call_hook

    def call(self, fn_name: str, **kwargs) -> None:
        hook(fn_name, self)
        call_hook(self, fn_name, **kwargs)

    AdPERunner.call_hook = call


def _watch_files(work_dir: Path, event: Callable[[str], None], write: Callable) -> None:
    folder, real_open, real_fsync = str(work_dir) + os.sep, builtins.open, os.fsync
    audited = {'os.rename': 'rename', 'os.remove': 'remove'}

    class Watched:
        """A file that is written to."""

        def __init__(self, file, name: str) -> None:
            self._file, self._name = file, name

        def write(self, data) -> int:
            return write(self._file, data, self._name)

        def __getattr__(self, name: str):
            return getattr(self._file, name)

        def __enter__(self) -> 'Watched':
            return self

        def __exit__(self, *error) -> None:
            self._file.close()

        def __iter__(self):
            return iter(self._file)

    def is_mine(path) -> bool:
        return isinstance(path, str | os.PathLike) and os.fspath(path).startswith(folder)

    def open_watched(file, mode='r', *args, **kwargs):
        if not is_mine(file) or mode[0] not in 'wx':
            return real_open(file, mode, *args, **kwargs)
        name = os.path.basename(file)
        event(f'open {name}')
        return Watched(real_open(file, mode, *args, **kwargs), name)

    def fsync(descriptor: int) -> None:
        event(f'fsync {os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))}')
        real_fsync(descriptor)

    def audit(name: str, args: tuple) -> None:
        if name in audited and is_mine(args[0]):
            event(f'{audited[name]} {os.path.basename(args[0])}')

    builtins.open, os.fsync = open_watched, fsync
    sys.addaudithook(audit)
