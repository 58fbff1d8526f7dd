"""A fault campaign: see `Campaign`."""

import importlib
import os
import random
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from adpe_mm.errors import MachineError
from adpe_mm.evaluation.faults import forking
from adpe_mm.evaluation.faults.moments import ABOUT, FAULT, LAUNCHER, WORKER, Fault, watch
from adpe_mm.evaluation.faults.outcomes import (
    differences,
    left_over,
    shared_memory,
    unreadable,
)
from adpe_mm.evaluation.faults.plan import Plan
from adpe_mm.evaluation.faults.tries import Result, Run, Try
from adpe_mm.stopping import STATUS

# What a run imports, and needs not if it is imported before.
_LIBRARIES = (
    'setuptools', 'mmengine.runner', 'torch.utils.tensorboard', 'adpe_mm.datasets.checking',
    'adpe_mm.torchrun',
)  # fmt: skip
_PARTS = ('datasets', 'engine', 'evaluation', 'models', 'visualization')
TASKS = {'pretrain': 'mmpretrain', 'cls': 'mmpretrain', 'seg': 'mmseg', 'det': 'mmdet'}
SETTLES = 15.0  # seconds in which all processes of a run have to end after one of them
SPARE = 8  # times the time of a run without faults, after which one hangs


class Campaign:
    """Trains a task without faults, and again and again with one, to compare.

    Args:
        root: Folder with configs and tools.
        task: One of `TASKS`.
        processes: How many train together.
        out: Folder for all work dirs, and for the images.
        seed: Of the moments that are drawn.
        say: Called with a line for each try.
    """

    def __init__(
        self,
        root: Path,
        task: str,
        processes: int,
        out: Path,
        seed: int,
        say: Callable[[str], None],
    ) -> None:
        self.root, self.task, self.processes, self.seed = root, task, processes, seed
        self.out = out / f'{task}_{processes}'
        self.data = out / 'mini'
        self.say = say
        self.reference = self.out / 'reference'
        self.duration = 60.0  # of the run without faults, when it is known
        # DDP arranges its buckets anew after one iteration, and so the order of three summands.
        self.exact = processes <= 2
        self.result = Result(task, processes)

    def run(self, kills: int, stops: int, length: int, only: int | None = None) -> None:
        """Do it, and fill the result.

        Args:
            kills: Kills that are to happen,
            stops: and stops.
            length: Faults to a training, before it may come to its end.
            only: The number of a training with faults: the only one that is done.

        Raises:
            MachineError: If the training without faults fails.
        """
        parts = [f'{TASKS[self.task]}.{part}' for part in _PARTS]
        for library in (*_LIBRARIES, *parts):
            importlib.import_module(library)
        forking.adopt_orphans()
        try:
            self._run(kills, stops, length, only)
        finally:
            forking.survivors(0)  # of a campaign that was interrupted

    def _run(self, kills: int, stops: int, length: int, only: int | None) -> None:
        self._draw_images()
        draw = random.Random(f'{self.seed} {self.task} {self.processes}')
        plan = Plan(draw, self._train_without_faults(), self.duration)
        result = self.result
        for number, chain in enumerate(plan.chains(kills, stops, length)):
            if result.count(True) >= kills and result.count(False) >= stops:
                break
            if only in (None, number):
                result.tries.append(self._try(number, chain))
            if number == only:
                break

    def _draw_images(self) -> None:
        if self.data.exists():
            return
        tool = self.root / 'tools' / 'dataset_converters' / 'make_mini.py'
        self.out.parent.mkdir(parents=True, exist_ok=True)
        log = self.out.parent / 'make_mini.log'
        options = dict(train=40, val=16, size=64, others=0, variation=30, workers=1)
        words = [word for name, value in options.items() for word in (f'--{name}', str(value))]
        job = forking.start([str(tool), str(self.data), *words], log, {}, lambda: None)
        if forking.wait(job, 600) != 0:
            raise MachineError(f"the images could not be drawn: see '{log}'")

    def _train_without_faults(self) -> list[list[str]]:
        """Returns the events of each process."""
        shutil.rmtree(self.out, ignore_errors=True)
        run = self._train(self.reference, None, 600)
        about = self.out / 'reference_about'
        if run.status != 0 or run.left:
            raise MachineError(
                f'the training without faults ended with {run.status}, and left over '
                f"{', '.join(run.left) or 'nothing'}: see '{about / 'output.log'}'"
            )
        self.duration = run.seconds
        self.say(f'{self.task}, {self.processes} processes: {run.seconds:.1f} s without faults')
        return [
            (about / f'events {rank}').read_text().splitlines() for rank in range(self.processes)
        ]

    def _try(self, number: int, chain: list[Fault]) -> Try:
        """Train with some faults, and without more of them to the end."""
        found, work_dir = Try(number), self.out / f'training_{number}'
        for fault in [*chain, None]:
            run = self._train(work_dir, fault, 30 + SPARE * self.duration)
            found.left += run.left
            found.unreadable += unreadable(work_dir)
            if run.sent is not None:
                found.faults.append(fault)
            found.status += self._status(fault, run)
            if run.sent is not None and not fault.kills:
                found.seconds = max(found.seconds, run.seconds - run.sent)
            if run.status == 0:
                found.different += differences(work_dir, self.reference, self.exact)
                break
            if run.status is None:
                break
        self._report(found)
        if not found.failed:
            shutil.rmtree(work_dir)
        return found

    def _status(self, fault: Fault | None, run: Run) -> Iterator[str]:
        """What was wrong with how a run ended."""
        start = run.said.find('Traceback')
        said = run.said[-1500:] if start < 0 else run.said[start : start + 3000]
        said = f'{run.status}, and said: {said}'
        traceback = 'Traceback' in run.said
        if run.status is None:
            wrong = True  # it hung
        elif run.sent is None:
            wrong = run.status != 0
        elif fault.kills:  # of a worker; with several processes it is torchrun that adds one
            wrong = fault.whom == WORKER and self.processes == 1 and traceback
        else:
            wrong = traceback or run.status not in (0, STATUS)
        if wrong:
            yield f'{fault or "no fault"}: ended with {said}'

    def _report(self, found: Try) -> None:
        outcome = 'FAILED' if found.failed else 'as without them'
        self.say(f'{found.number:4}  {"; ".join(map(str, found.faults)) or "no fault"}: {outcome}')
        for kind in ('different', 'unreadable', 'left', 'status'):
            for line in getattr(found, kind)[:5]:
                self.say(f'      {kind}: {line}')
        if found.failed:
            self.say(
                f'      again: --task {self.task} --processes {self.processes} --seed {self.seed} '
                f'--only {found.number}'
            )

    def _train(self, work_dir: Path, fault: Fault | None, limit: float) -> Run:
        """Train once, until it ends by itself or by a fault."""
        about, temporary = (work_dir.with_name(work_dir.name + s) for s in ('_about', '_tmp'))
        for folder in (about, temporary):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        log = about / 'output.log'
        env = {
            'MINI_DATA': str(self.data),
            'OMP_NUM_THREADS': '1',
            'CUDA_VISIBLE_DEVICES': '',
            'TMPDIR': str(temporary),
            ABOUT: str(about),
        }
        if fault is not None and fault.event is not None:
            env[FAULT] = fault.to_json()
        before = shared_memory()
        watching = partial(watch, work_dir, os.getpid())
        start = time.monotonic()
        root = forking.start(self._command(work_dir), log, env, watching)
        (about / LAUNCHER).write_text(str(root))
        timed = [fault] if fault is not None and fault.event is None else []

        def look() -> None:
            if timed and time.monotonic() - start > timed[0].seconds:
                timed.pop().send(about, os.getpid())

        status = forking.wait(root, limit, look)
        seconds = time.monotonic() - start
        left = forking.survivors(SETTLES if status is not None else 0)
        sent = about / 'sent'
        happened = float(sent.read_text()) - start if sent.exists() else None
        if happened is None or not fault.kills:
            left += left_over(work_dir, temporary, before, root)
        said = log.read_text(encoding='utf-8', errors='replace')
        shutil.rmtree(temporary)
        return Run(status, seconds, happened, said, left)

    def _command(self, work_dir: Path) -> list[str]:
        """What `tools/train.py` and `tools/dist_train.sh` would run."""
        command = [
            str(self.root / 'tools' / 'train.py'),
            str(self.root / 'configs' / 'benchmarks' / 'faults' / f'{self.task}.py'),
            '--work-dir', str(work_dir), '--resume',
            '--cfg-options', f'train_dataloader.batch_size={8 // self.processes}',
        ]  # fmt: skip
        if self.processes == 1:
            return command
        with socket.create_server(('127.0.0.1', 0)) as free:
            port = free.getsockname()[1]
        return [
            '-m', 'adpe_mm.torchrun', '--nnodes=1', '--node_rank=0', '--master_addr=127.0.0.1',
            f'--master_port={port}', f'--nproc_per_node={self.processes}', *command,
            '--launcher', 'pytorch',
        ]  # fmt: skip
