"""Which runs there are below a folder, and how far each is, from what they log."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from mmengine.config import Config

# As mmengine's LogProcessor writes it: by epoch '[3][40/62]', by iteration '[40/400]'.
ENTRY = re.compile(
    r'^(?P<date>\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) .*(?:Epoch|Iter)\(train\) +'
    r'(?:\[ *(?P<epoch>\d+)\])?\[ *(?P<step>\d+)/(?P<steps>\d+)\].*'
    r' eta: (?:(?P<days>\d+) days?, )?(?P<h>\d+):(?P<m>\d\d):(?P<s>\d\d) '
    r'.*\btime: (?P<time>[\d.]+) .*\bdata_time: (?P<data_time>[\d.]+)'
)
SAVED = re.compile(r'Saving checkpoint at (\d+) (?:epoch|iteration)s')
# As `AdPERunner` writes it.
BATCH = re.compile(r'global batch \d+ = (?P<processes>\d+) processes x (?P<images>\d+) ')


@dataclass(frozen=True)
class Progress:
    """How far a run is, by the last entry of its log.

    Attributes:
        done: Iterations, or epochs and the part of one.
        total: Of these, that it will have in all.
        unit: 'iteration' or 'epoch'.
        left: Time that the rest takes.
        seconds: Per iteration, the mean since the entry before.
        waiting: Seconds of these in which the images were waited for.
        images: Per iteration, over all processes; None if the log does not say.
        date: Of the entry.
    """

    done: float
    total: int
    unit: str
    left: timedelta
    seconds: float
    waiting: float
    images: int | None
    date: datetime

    @property
    def complete(self) -> bool:
        return not self.left

    @property
    def speed(self) -> float | None:
        """Images per second."""
        return self.images / self.seconds if self.images and self.seconds else None


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        folder: Its work dir.
        name: The folder, relative to that of all runs.
        config: Of the training; empty if it is not there.
        progress: None before the first entry of its log.
    """

    folder: Path
    name: str
    config: Config
    progress: Progress | None

    @property
    def is_pretraining(self) -> bool:
        return self.config.get('model', {}).get('type') in ('adpe_mm.MAEPlus', 'MAEPlus', 'MAE')

    @property
    def method(self) -> str:
        """What is trained: 'AdPE (relative positions, coordinate)', or the network's type."""
        model = self.config.get('model', {})
        if not self.is_pretraining or model.type == 'MAE':
            return model.get('type', 'a network')
        position = dict(ape='absolute positions', rpe='relative positions')
        words = [position[model.backbone.get('position', 'ape')]]
        adversary = model.get('adversary')
        if adversary:
            words.append(adversary.get('mode', adversary.get('type')))
        return f'{"AdPE" if adversary else "MAE+"} ({", ".join(words)})'


def find_runs(root: Path) -> list[Run]:
    """Work dirs with a log below a folder, those that logged last at the end."""
    logs: dict[Path, list[Path]] = {}
    for path in sorted(root.rglob('*/vis_data/scalars.json')):
        logs.setdefault(path.parents[2], []).append(path.parents[1])
    runs = []
    for folder, parts in logs.items():
        path = parts[-1] / 'vis_data' / 'config.py'
        config = Config()
        if path.exists():
            config = Config.fromfile(path, import_custom_modules=False)
        text = '\n'.join(
            path.read_text(encoding='utf-8') for part in parts for path in part.glob('*.log')
        )
        name = str(folder.relative_to(root)) if folder != root else folder.resolve().name
        runs.append(Run(folder, name, config, read_progress(text, config)))
    return sorted(runs, key=lambda run: (bool(run.progress), run.progress and run.progress.date))


def read_progress(text: str, config: Config) -> Progress | None:
    """How far a training is.

    Args:
        text: All its logs, the older first.
        config: Of the training.
    """
    entry, images, saved = None, None, 0
    for line in text.splitlines():
        if checkpoint := SAVED.search(line):
            saved = int(checkpoint[1])
        if batch := BATCH.search(line):
            images = int(batch['processes']) * int(batch['images'])
        entry = ENTRY.match(line) or entry
    if entry is None:
        return None
    done, total, unit = float(entry['step']), int(entry['steps']), 'iteration'
    if entry['epoch']:
        done, unit = int(entry['epoch']) - 1 + done / total, 'epoch'
        total = config.get('train_cfg', {}).get('max_epochs') or int(entry['epoch'])
    h, m, s = (int(entry[name]) for name in 'hms')
    left = timedelta(days=int(entry['days'] or 0), hours=h, minutes=m, seconds=s)
    if saved == total:  # the last entry is of some iterations before the end
        done, left = float(total), timedelta()
    return Progress(
        done,
        total,
        unit,
        left,
        float(entry['time']),
        float(entry['data_time']),
        images,
        datetime.strptime(entry['date'], '%Y/%m/%d %H:%M:%S'),
    )


def duration(time: timedelta) -> str:
    """'3 days 2 h', '5 h 10 min', '4 min', '20 s'."""
    minutes, seconds = divmod(round(time.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f'{days} day{"s" * (days > 1)} {hours} h'
    if hours:
        return f'{hours} h {minutes} min'
    return f'{minutes} min' if minutes else f'{seconds} s'
