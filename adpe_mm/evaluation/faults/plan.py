"""Which faults a campaign lets happen, and when."""

import random
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle

from adpe_mm.evaluation.faults.moments import ALL, LAUNCHER, WORKER, Fault

PHASES = ('start', 'training', 'saving', 'validation')
STOPPING = ('SIGTERM', 'SIGINT', 'SIGHUP', 'SIGUSR1')
_OF_SAVING = r'(open|write|fsync|rename|remove) .*(\.pth|last_checkpoint|last_validation).*'


@dataclass(frozen=True)
class Event:
    """Something that a process does in a run without faults; see `Fault` and `PHASES`."""

    rank: int
    what: str
    occurrence: int
    phase: str


@dataclass
class Plan:
    """Draws faults.

    Args:
        draw: All chance.
        events: What each process does in a run without faults, in order.
        seconds: That run takes.
    """

    draw: random.Random
    events: list[list[str]]
    seconds: float

    def __post_init__(self) -> None:
        ranks = range(len(self.events))
        self.by_rank = [list(_events(rank, self.events[rank])) for rank in ranks]
        self.processes = [f'process {rank}' for rank in ranks]

    def chains(self, kills: int, stops: int, length: int) -> Iterator[list[Fault]]:
        """Faults that happen to one training, one after the other; endlessly.

        Args:
            kills: How many there are to be,
            stops: in comparison with these.
            length: Faults to a training.
        """
        killing, stopping = self._kills(), self._stops()
        while True:
            kinds = [self.draw.random() * (kills + stops) < kills for _ in range(length)]
            chain = [next(killing if kill else stopping) for kill in kinds]
            yield sorted(chain, key=self._when)

    def _when(self, fault: Fault) -> float:
        """In which part of the run, from 0 to 1."""
        if fault.event is None:
            return fault.seconds / self.seconds
        events = self.events[fault.rank]
        return events.index(fault.event) / len(events)

    def _kills(self) -> Iterator[Fault]:
        """By turns: twice at an operation on a file around a save, at any event, at any time."""
        # A file is opened once and written to a hundred times: each operation has the same chance.
        operations: dict[str, list[Event]] = {}
        for event in self.by_rank[0]:
            if re.fullmatch(_OF_SAVING, event.what):
                operations.setdefault(event.what, []).append(event)
        order = [*operations.values()]
        self.draw.shuffle(order)
        saving = cycle(order)
        several = len(self.processes) > 1
        whom = cycle([ALL, LAUNCHER, *self.processes] if several else [ALL])
        for turn in cycle(range(8)):
            if turn % 4 == 3:
                yield Fault('SIGKILL', next(whom), seconds=self.draw.uniform(0, self.seconds))
                continue
            if turn % 4 == 2:
                event = self.draw.choice(self.draw.choice(self.by_rank))
            else:
                event = self.draw.choice(next(saving))
            yield _at(event, 'SIGKILL', WORKER if turn == 6 else next(whom))

    def _stops(self) -> Iterator[Fault]:
        """Phases, signals, and who hears them: each by turns."""
        several = len(self.processes) > 1
        whom = cycle([LAUNCHER, *self.processes, ALL] if several else [*self.processes, ALL])
        while True:
            signals = self.draw.sample(STOPPING, len(STOPPING))
            for phase, name in zip(PHASES, signals, strict=True):
                events = [e for e in self.draw.choice(self.by_rank) if e.phase == phase]
                # Process 0 alone writes; some tasks are not validated.
                events = events or [e for e in self.by_rank[0] if e.phase == phase]
                if events:
                    what = self.draw.choice(sorted({e.what for e in events}))
                    event = self.draw.choice([e for e in events if e.what == what])
                    yield _at(event, name, next(whom))


def _at(event: Event, name: str, whom: str) -> Fault:
    return Fault(name, whom, event.rank, event.what, event.occurrence)


def _events(rank: int, events: list[str]) -> Iterator[Event]:
    """Events of a process, each with the phase of the run that it is of."""
    phase, seen = 'start', Counter()
    for what in events:
        seen[what] += 1
        if what.startswith('hook before_val at'):
            phase = 'validation'
        elif what.startswith(
            ('hook before_train_epoch', 'hook before_train_iter', 'hook after_val at')
        ):
            phase = 'training'
        saves = what.startswith('hook before_save') or re.fullmatch(_OF_SAVING, what)
        yield Event(rank, what, seen[what], 'saving' if saves and phase != 'start' else phase)
