"""Signals that end a job: heard at any moment, passed on to all processes, obeyed at one place.

What a process does that hears one depends on what it is doing:

- Outside of a training it ends at once, by `Stopped` (status 143): nothing is lost.
- In a training it goes on to the next *place*: the end of an optimiser step, of an epoch, or of a
  validation. All processes stop at the same one, as any of them may have heard the signal, and all
  may be needed to save.

To agree on it takes no synchronisation with the devices and nothing per iteration. A thread of each
process exchanges four numbers with the others five times a second, over gloo. When one has heard a
signal, each proposes the place that it comes to next, and does not pass it before all are known:
the farthest is where all stop.
"""

import atexit
import ctypes
import multiprocessing.util
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

# Of Slurm, Kubernetes and torchrun; of a terminal; of its end; those that a user may choose in
# `srun --signal=USR1@120`.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
PERIOD = 0.2  # seconds between two exchanges
STATUS = 143  # 128 + SIGTERM, whichever signal it was
PR_SET_PDEATHSIG = 1  # of linux/prctl.h
LAUNCHER = 'ADPE_LAUNCHER'  # of the environment: process id of `adpe_mm.torchrun`


class Stopped(SystemExit):
    """Ends the process after a signal.

    Attributes:
        together: Whether all processes of the run end now, and have agreed on it.
    """

    def __init__(self, together: bool = False) -> None:
        super().__init__(STATUS)
        self.together = together


class Stop:
    """Hears the signals of a process, and knows the place where all processes stop."""

    def __init__(self) -> None:
        self.heard: signal.Signals | None = None
        self._waits = False  # for a place, as in a training
        self._time = 0.0
        self._handlers: dict[signal.Signals, object] = {}  # those before ours
        self._pipe: tuple[int, int] | None = None
        self._former_pipe = -1
        self._borrowed = False  # whether they are ours only in a training
        self._exiting: bool | None = None  # None until somebody listens
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._reset()

    def _reset(self) -> None:
        self.heard = self._told = None
        self._arrived = self._passed = self._slowest = 0  # numbers of places
        self._proposed: int | None = None
        self._agreed: int | None = None
        self._ends = False

    @property
    def in_training(self) -> bool:
        """Whether a signal waits for the next place."""
        return self._waits

    def listen(self) -> None:
        """Hear the signals from now on, but those that are ignored: nohup's SIGHUP."""
        if threading.current_thread() is not threading.main_thread():
            return
        if self._exiting is None:
            self._exiting = False
            atexit.register(self._exit)
        for number in SIGNALS:
            before = signal.getsignal(number)
            if before not in (self._hear, signal.SIG_IGN):
                self._handlers[number] = before
                signal.signal(number, self._hear)

    def forget(self) -> None:
        """Have the signals mean what they meant before `listen`."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()

    def _exit(self) -> None:
        self._exiting = True

    def _hear(self, number: int, frame) -> None:
        if self.heard is None:
            if self._exiting:  # what is raised now would be printed, and end nothing
                os._exit(STATUS)
            self.heard, self._time = self._told or signal.Signals(number), time.monotonic()
            if not self._waits:
                raise Stopped
        # Slurm, torchrun and a terminal may send one more than once, and several at once.
        elif number == signal.SIGINT and time.monotonic() - self._time > 1:
            print('stopped a second time: it ends without saving', file=sys.stderr)
            raise Stopped

    @contextmanager
    def ending_at_once(self) -> Iterator[None]:
        """Let a signal kill the process within a part that waits in C++, where Python hears none.

        Of a part in which nothing can be lost.
        """
        ours = [number for number in SIGNALS if signal.getsignal(number) == self._hear]
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
        try:
            yield
        finally:
            for number in ours:
                signal.signal(number, self._hear)

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """Raise `Stopped` at once within a part of a training that can be left at any moment.

        Only this process learns of it: no exchange with another one may be left half done.
        """
        waited, self._waits = self._waits, False
        try:
            if self.heard is not None:
                raise Stopped
            yield
        finally:
            self._waits = waited

    def begin(self) -> None:
        """From now on, stop at places. All processes must call it."""
        self._borrowed = not self._handlers
        if self.heard is not None and not self._borrowed:
            raise Stopped  # once more: a library's bare `except` took the first one
        self.listen()
        self._reset()
        several = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
        group = _new_group() if several else None
        self._waits = True
        if group is not None:
            self._open_pipe()
            self._thread = threading.Thread(target=self._exchange, args=(group,), daemon=True)
            self._thread.start()

    def _open_pipe(self) -> None:
        """Let the thread know of a signal while the main thread waits for a device or a process.

        Python writes the number there at once, and calls `_hear` when the main thread goes on.
        """
        self._pipe = os.pipe()
        os.set_blocking(self._pipe[1], False)
        if threading.current_thread() is threading.main_thread():
            self._former_pipe = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)

    def _close_pipe(self) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.set_wakeup_fd(self._former_pipe)
        for end in self._pipe:
            os.close(end)
        self._pipe = None

    def end(self) -> None:
        """No place follows. Waits until all processes say so, or until one is gone."""
        with self._changed:
            self._ends = True
        if self._thread is not None:
            self._thread.join()
            self._close_pipe()
        self.drop()

    def drop(self) -> None:
        """Like `end`, but without waiting: after an error the others may never come."""
        self._thread = None
        self._waits = False
        if self._borrowed:
            self.forget()

    def place(self, together: bool = False) -> bool:
        """Tell whether all processes stop here.

        All must come to the same places in the same order, with the same state.

        Args:
            together: Wait for all the others first. None is beyond this place then while another
                one has not come to it.

        Raises:
            Stopped: If a signal was heard, and another process is gone.
        """
        if self._thread is None:
            return self.heard is not None
        with self._changed:
            self._arrived += 1
            while self._thread.is_alive() and self._agreed is None:
                settled = self.heard is None and self._proposed is None
                if settled and not (together and self._slowest < self._arrived):
                    break
                self._changed.wait(PERIOD)
            self._passed += 1
            if self._agreed is None and self.heard is not None:
                raise Stopped
            return self._agreed == self._passed

    def _exchange(self, group: dist.ProcessGroup) -> None:
        """What the thread does: tell the others what is known here, and hear from them."""
        noticed = 0
        while True:
            if not noticed and select.select([self._pipe[0]], [], [], PERIOD)[0]:
                noticed = max({*os.read(self._pipe[0], 99)} & {*SIGNALS}, default=0)
            with self._changed:
                noticed = self.heard or noticed
                proposed = self._proposed
                mine = [noticed, proposed or 0, -self._arrived, not self._ends]
            known = torch.tensor(mine, dtype=torch.int64)
            try:
                dist.all_reduce(known, dist.ReduceOp.MAX, group)
            except RuntimeError:  # a process is gone
                return
            number, farthest, slowest, goes_on = known.tolist()
            with self._changed:
                self._slowest = -slowest
                if number and not noticed:
                    self._told = signal.Signals(number)
                    # Runs `_hear` there, and wakes it. To the process, this thread might get it.
                    signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)
                if proposed is not None:
                    self._agreed = farthest  # all have proposed one by now
                elif number:
                    self._proposed = self._passed + 1
                self._changed.notify_all()
            if not goes_on:
                return


stop = Stop()  # signals are of the process, not of a runner


def _new_group() -> dist.ProcessGroup:
    """A group of all processes over gloo; a signal ends the wait for those that never come.

    In a thread: torch waits in C++, and what Python does upon a signal waits for the main thread.
    """
    outcome: list[dist.ProcessGroup | Exception] = []

    def make() -> None:
        try:
            outcome.append(dist.new_group(backend='gloo'))
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(PERIOD)
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]


def die_with_parent(number: signal.Signals, parent: int | None = None) -> None:
    """Have the kernel send a signal to this process when its parent is gone (Linux only).

    Args:
        number: The signal.
        parent: Process id of the parent, if it is known, as it may be gone already.
    """
    if sys.platform == 'linux':
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(number))
        if parent is not None and os.getppid() != parent:
            os.kill(os.getpid(), number)  # it was gone before


def outlive_signals() -> None:
    """In a worker of a loader: leave it to the main process when to end.

    The signals that stop a job reach the whole group of processes, but the main process still needs
    batches to come to a place where it can save. It ends its workers itself, and they end with it.
    """
    parent = multiprocessing.parent_process()
    die_with_parent(signal.SIGKILL, parent.pid if parent else None)
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def end_workers() -> None:
    """End the loaders' processes now: they leave signals alone, and Python would wait for them."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch would raise an error at their end
    for worker in multiprocessing.active_children():
        if worker.daemon:
            worker.kill()


# Before that of `multiprocessing.util`, which was registered when it was imported.
atexit.register(end_workers)
