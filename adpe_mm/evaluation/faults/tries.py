"""What came of the runs of a campaign, and its table."""

from dataclasses import dataclass, field

from adpe_mm.evaluation.faults.moments import Fault


@dataclass
class Run:
    """One start of a training.

    Attributes:
        status: It ended with; None if it hung.
        seconds: It took.
        sent: When the fault happened, after its start; None if it did not.
        said: What it printed.
        left: What was left of it: processes, and files if it was to end by itself.
    """

    status: int | None
    seconds: float
    sent: float | None
    said: str
    left: list[str]


@dataclass
class Try:
    """A training with faults, resumed until it was done, and what was wrong with it."""

    number: int
    faults: list[Fault] = field(default_factory=list)  # that happened
    different: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    status: list[str] = field(default_factory=list)
    seconds: float = 0.0  # that the slowest stop took

    @property
    def failed(self) -> bool:
        """Whether anything was wrong."""
        return bool(self.different or self.unreadable or self.left or self.status)


@dataclass
class Result:
    """What a campaign of one task found."""

    task: str
    processes: int
    tries: list[Try] = field(default_factory=list)

    def count(self, kills: bool) -> int:
        """Faults of one kind that happened."""
        return sum(fault.kills == kills for t in self.tries for fault in t.faults)

    def row(self) -> dict[str, str | int | float]:
        """Its row of the table; what was wrong is counted by trainings."""
        kinds = {'different': 'different', 'unreadable': 'unreadable', 'left over': 'left'}
        kinds['wrong status'] = 'status'
        return {
            'task': self.task,
            'processes': self.processes,
            'kills': self.count(True),
            'stops': self.count(False),
            'trainings': len(self.tries),
            **{
                name: sum(bool(getattr(t, kind)) for t in self.tries)
                for name, kind in kinds.items()
            },
            'slowest stop (s)': round(max((t.seconds for t in self.tries), default=0), 1),
        }


def table(results: list[Result]) -> str:
    """All results as a Markdown table."""
    rows = [result.row() for result in results]
    lines = [list(rows[0]), ['---'] * len(rows[0]), *([str(v) for v in r.values()] for r in rows)]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)
