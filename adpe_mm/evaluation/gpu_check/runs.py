"""Whole runs of the commands: stopped and resumed, in several processes, ended by signals."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from adpe_mm.checkpoints import read_checkpoint

from ..transfer import free_port
from .rows import Row, verdict

EPOCHS = 3
GRACE = 60  # seconds that a run may take to save and end


class Training:
    """Runs of tools/train.py on mini scenes, from a clone's or the package's folder."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root, self.folder = root, folder
        self.config = root / 'configs' / 'benchmarks' / 'smoke' / 'pretrain.py'

    def draw(self) -> None:
        """Make the mini scenes that all runs train on."""
        self.call(
            [sys.executable, 'tools/dataset_converters/make_mini.py', self.folder / 'mini',
             '--size', '64', '--train', '160', '--val', '8', '--others', '0']
        )  # fmt: skip

    def call(self, command: list) -> None:
        log = self.folder / 'output.log'
        with open(log, 'a', encoding='utf-8') as out:
            done = subprocess.run(
                [str(word) for word in command], cwd=self.root, stdout=out, stderr=out
            )
        if done.returncode:
            tail = ' / '.join(log.read_text(encoding='utf-8').splitlines()[-3:])
            raise RuntimeError(f'{command[1]} ended with {done.returncode}: {tail}')

    def start(self, name: str, processes: int, *more: str, options: tuple = ()) -> subprocess.Popen:
        """Begin a run in a session of its own, by torchrun where there are several processes."""
        command = ['tools/train.py', self.config, '--work-dir', self.folder / name, *more]
        command += ['--cfg-options', f'train_cfg.max_epochs={EPOCHS}', *options]
        if processes > 1:
            command = ['tools/dist_train.sh', self.config, processes, *command[2:]]
        else:
            command = [sys.executable, *command]
        environment = dict(os.environ, MINI_DATA=str(self.folder / 'mini'), PORT=free_port())
        environment['PYTHON'] = sys.executable
        out = open(self.folder / f'{name}.log', 'a', encoding='utf-8')  # noqa: SIM115
        return subprocess.Popen(
            [str(word) for word in command], cwd=self.root, env=environment, stdout=out,
            stderr=out, start_new_session=True,
        )  # fmt: skip

    def finish(self, name: str, processes: int, *more: str, options: tuple = ()) -> dict:
        """Run to the end.

        Returns:
            The weights.
        """
        process = self.start(name, processes, *more, options=options)
        if process.wait():
            tail = (self.folder / f'{name}.log').read_text(encoding='utf-8').splitlines()[-3:]
            raise RuntimeError(f'{name} ended with {process.returncode}: {" / ".join(tail)}')
        return read_checkpoint(self.folder / name / f'epoch_{EPOCHS}.pth')['state_dict']

    def interrupt(self, name: str, processes: int, whom: int | None) -> tuple[int, list[int]]:
        """Begin a run, end it in its second epoch by SIGTERM, and wait.

        Args:
            name: Of the run.
            processes: How many.
            whom: The process that hears it, or None for the launcher.

        Returns:
            Exit status, and the processes that are left.
        """
        process = self.start(name, processes)
        first = self.folder / name / 'epoch_1.pth'
        while not first.exists():
            if process.poll() is not None:
                raise RuntimeError(f'{name} ended with {process.returncode} before its first epoch')
            time.sleep(0.05)
        target = process.pid
        if whom is not None:
            target = sorted(training_processes(process.pid))[whom]
        os.kill(target, signal.SIGTERM)
        status = process.wait(timeout=GRACE)
        time.sleep(1)
        return status, in_session(process.pid)


def in_session(session: int) -> list[int]:
    """Processes of a session that are still there."""
    found = []
    for folder in Path('/proc').glob('[0-9]*'):
        try:
            fields = (folder / 'stat').read_text().rpartition(')')[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != 'Z':
            found.append(int(folder.name))
    return found


def training_processes(launcher: int) -> list[int]:
    """The processes that torchrun started, by their ranks."""
    ranks = {}
    for pid in in_session(launcher):
        try:
            environment = Path(f'/proc/{pid}/environ').read_bytes().split(b'\0')
            parent = int(Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[1])
        except OSError:
            continue
        rank = [e[5:] for e in environment if e.startswith(b'RANK=')]
        if rank and parent in in_session(launcher) and int(rank[0]) not in ranks:
            ranks[int(rank[0])] = pid
    return [ranks[rank] for rank in sorted(ranks)]


def difference(a: dict, b: dict) -> float:
    """Largest difference of two state dicts, relative to the largest weight of each tensor."""
    assert a.keys() == b.keys()
    return max(
        (
            (a[n].double() - b[n].double()).abs().max() / b[n].double().abs().max().clamp(min=1e-3)
        ).item()
        for n in a
        if a[n].is_floating_point()
    )


def check_resume(training: Training) -> Iterator[Row]:
    """A run that is ended by SIGTERM and resumed, beside one that is not."""
    training.draw()
    plain = training.finish('plain', 1)
    again = training.finish('again', 1)
    repeats = difference(plain, again)
    yield Row('resume', 'the same run twice', 'measured', f'weights differ by {repeats:.1e}')
    status, left = training.interrupt('stopped', 1, None)
    yield verdict(
        'resume', 'SIGTERM', status in (143, -15) and not left, f'status {status}, {left} left'
    )
    resumed = difference(plain, training.finish('stopped', 1, '--resume'))
    # Atomic additions on a GPU: no two runs are alike there, and resumed ones are not less so.
    right = resumed <= max(2 * repeats, 0.0)
    yield verdict('resume', 'stopped and resumed', right, f'weights differ by {resumed:.1e}')


def check_processes(training: Training, processes: int) -> Iterator[Row]:
    """Data parallel and sharded training of several GPUs, and signals to each part of it."""
    if torch.cuda.device_count() < processes:
        why = f'needs {processes} GPUs, there are {torch.cuda.device_count()}'
        yield Row('processes', 'DDP, FSDP2, signals', 'skipped', why)
        return
    ddp = training.finish('ddp', processes)
    yield Row('processes', f'DDP, {processes} processes', 'PASS', 'ran to its end')
    sharded = training.finish('sharded', processes, options=('sharding=True',))
    off = difference(ddp, sharded)
    yield verdict('processes', 'FSDP2 beside DDP', off < 0.05, f'weights differ by {off:.1e}')
    for name, whom in (('launcher', None), ('process 0', 0), ('process 1', 1)):
        status, left = training.interrupt(f'stop {name}', processes, whom)
        saved = list((training.folder / f'stop {name}').glob('stopped_iter_*.pth'))
        right = status == 143 and not left and len(saved) == 1
        value = f'status {status}, {len(saved)} checkpoint, {len(left)} processes left'
        yield verdict('processes', f'SIGTERM to {name}', right, value)
