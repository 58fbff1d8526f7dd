"""Commands in processes that are forked, so that a run takes seconds: they need to import nothing.

Each is a process of its own, with the parents, groups and signals that it would have: what is left
out is starting Python and importing. Linux only.
"""

import atexit
import ctypes
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from adpe_mm.stopping import stop

PR_SET_CHILD_SUBREAPER = 36  # of linux/prctl.h


def adopt_orphans() -> None:
    """Become the parent of all descendants whose own parent ends, to know which are left over."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


def start(command: list[str], log: Path, env: dict[str, str], prepare: Callable[[], None]) -> int:
    """Start a Python command in a session of its own; returns its process id.

    Args:
        command: A script and its arguments, or ``-m``, a module and its arguments.
        log: File that output is added to.
        env: What is added to the environment.
        prepare: Called in the new process, and in those that torchrun starts, before the command.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    process = os.fork()
    if process:
        return process
    try:
        stop.forget()
        os.setsid()
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.environ.update(env)
        if command[0] == '-m':
            _start_by_forks(prepare)
        _become(command, prepare)
    finally:
        os._exit(70)  # never reached


def _become(command: list[str], prepare: Callable[[], None]) -> None:
    """Run a command in this process, and end it as Python ends."""
    os.closerange(3, 4096)
    sys.argv = command[1:] if command[0] == '-m' else list(command)
    status = 0
    try:
        if command[0] == '-m':
            runpy.run_module(command[1], run_name='__main__', alter_sys=True)
        else:
            prepare()
            runpy.run_path(command[0], run_name='__main__')
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        traceback.print_exc()
        status = 128 + signal.SIGINT
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _start_by_forks(prepare: Callable[[], None]) -> None:
    """Let torchrun in this process fork what it would start.

    A `Popen` that never comes to its exec: the process has its parent, session and output by then.
    """
    from torch.distributed.elastic.multiprocessing.subprocess_handler import subprocess_handler

    def fork(args: tuple[str, ...], env: dict[str, str], **kwargs) -> subprocess.Popen:
        def instead() -> None:
            os.environ.clear()
            os.environ.update(env)
            try:
                _become([word for word in args[1:] if word != '-u'], prepare)
            finally:
                os._exit(70)

        return subprocess.Popen(args, env=env, preexec_fn=instead, **kwargs)

    subprocess_handler.Popen = fork


def family(ancestor: int) -> dict[int, str]:
    """All living descendants of a process: command by process id, children after parents."""
    children: dict[int, list[int]] = {}
    names = {}
    for path in Path('/proc').glob('[0-9]*/stat'):
        try:
            before, _, after = path.read_text().rpartition(')')
        except OSError:  # it has just ended
            continue
        state, parent = after.split()[:2]
        if state not in 'ZX':
            number = int(path.parent.name)
            children.setdefault(int(parent), []).append(number)
            names[number] = before.partition('(')[2]
    found: dict[int, str] = {}
    todo = [ancestor]
    while todo:
        for child in children.get(todo.pop(), []):
            found[child] = names[child]
            todo.append(child)
    return found


def kill_family(ancestor: int, but: int | None = None) -> None:
    """End all descendants of a process at once, as far as that goes."""
    for process in family(ancestor):
        if process != but:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


def ended() -> Iterator[tuple[int, int]]:
    """Process id and status of each child that has ended since, adopted ones too."""
    while True:
        try:
            process, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not process:
            return
        yield process, os.waitstatus_to_exitcode(status)


def wait(process: int, seconds: float, look: Callable[[], None] = lambda: None) -> int | None:
    """Wait for a child; returns its status, or None if it still runs when the time is over.

    Args:
        process: Its id.
        seconds: How long.
        look: Called a hundred times a second.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for child, status in ended():
            if child == process:
                return status
        look()
        time.sleep(0.01)
    return None


def survivors(seconds: float) -> list[str]:
    """What still runs of all that was started here, after it had some time to end; ends it."""
    end = time.monotonic() + seconds
    while family(os.getpid()) and time.monotonic() < end:
        time.sleep(0.02)
        list(ended())
    left = family(os.getpid())
    while family(os.getpid()):
        kill_family(os.getpid())
        time.sleep(0.02)
        list(ended())
    return [f'process {number} ({name})' for number, name in left.items()]
