"""From pretraining to the transfer table: which runs there are, and their execution."""

import argparse
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mmengine.config import Config

from adpe_mm.checkpoints import describe
from adpe_mm.errors import MachineError, UserError
from adpe_mm.launch import read_config
from adpe_mm.options import Option
from adpe_mm.stopping import die_with_parent

TASKS = ('cls', 'seg', 'det')


@dataclass(frozen=True)
class Run:
    """One training or one test.

    Attributes:
        name: What it is called in the output.
        config: Config file.
        work_dir: Where it writes.
        options: key=value overrides of the config.
        checkpoint: Of a test, what is tested; None for a training.
    """

    name: str
    config: str
    work_dir: Path
    options: tuple[str, ...]
    checkpoint: Path | None = None

    @property
    def mark(self) -> Path:
        """File that says that the run is complete."""
        return self.work_dir / ('.tested' if self.checkpoint else '.trained')

    def arguments(self) -> list[str]:
        """Arguments of the script after config and checkpoint."""
        flags = ['--work-dir', str(self.work_dir)]
        if self.checkpoint is None:
            flags.append('--resume')
        return flags + (['--cfg-options', *self.options] if self.options else [])

    def local_command(self, tools: Path, processes: int) -> list[str]:
        """Command that runs it here, by the scripts in the folder `tools`."""
        if self.checkpoint is None:
            script, files = 'dist_train.sh', [self.config]
        else:
            script, files = 'dist_test.sh', [self.config, str(self.checkpoint)]
        return [str(tools / script), *files, str(processes), *self.arguments()]

    def slurm_command(self, partition: str, processes: int) -> str:
        """Command that submits it, from the root of the repository."""
        arguments = self.arguments()
        if self.checkpoint is None:
            script, files = 'slurm_train.sh', [self.config, arguments[1]]
            arguments = arguments[2:]
        else:
            script, files = 'slurm_test.sh', [self.config, str(self.checkpoint)]
        command = [f'tools/{script}', partition, self.name.replace('/', '-'), *files, *arguments]
        return f'GPUS={processes} {shlex.join(command)}'


def final_checkpoint(cfg: Config, work_dir: Path) -> Path:
    """The file that a training of a config ends with."""
    if 'max_iters' in cfg.train_cfg:
        return work_dir / f'iter_{cfg.train_cfg.max_iters}.pth'
    return work_dir / f'epoch_{cfg.train_cfg.max_epochs}.pth'


def load(path: str, options: list[str]) -> Config:
    """A config with overrides, as the training will see it.

    Raises:
        FileNotFoundError: If there is no such config.
        ValueError: If an option is not key=value.
    """
    pairs = {}
    for option in options:
        key, equals, value = option.partition('=')
        if not equals:
            raise UserError(f"an option must be key=value, got '{option}'")
        pairs[key] = Option(value)
    return read_config(path, pairs)


def backbone_options(entry: str, args: argparse.Namespace) -> list[str]:
    """Overrides that make a task's backbone the one that was pretrained.

    The look-up of relative positions comes with the weights.
    """
    name, equals, checkpoint = entry.partition('=')
    if name == 'scratch' and not equals:
        return ['optim_wrapper.paramwise_cfg.layer_decay_rate=1.0']
    if equals:
        position = describe(checkpoint)['position']
    else:
        position = load(entry, args.pretrain_options).model.backbone.get('position', 'ape')
    return [f'model.backbone.position={position}']


def plan(args: argparse.Namespace) -> Iterator[Run]:
    """All runs, each after those that it needs.

    Args:
        args: The arguments of ``tools/benchmarks/transfer.py``.

    Raises:
        FileNotFoundError: If a config or a checkpoint is missing.
        ValueError: If two entries have one name.
    """
    names = [entry.partition('=')[0] for entry in args.entries]
    names = [Path(name).stem for name in names]
    if len(set(names)) != len(names):
        raise UserError(f'every entry needs a name of its own, got {names}')
    for name, entry in zip(names, args.entries, strict=True):
        adapted = backbone_options(entry, args)
        pretrained = None
        for seed in args.seeds:
            first = pretrained is None or args.repeat_pretraining
            if '=' in entry:
                pretrained = Path(entry.partition('=')[2])
            elif entry != 'scratch' and first:
                work_dir = args.out / name / 'pretrain'
                if args.repeat_pretraining:
                    work_dir = args.out / name / f'pretrain_seed{seed}'
                options = (*args.pretrain_options, f'randomness.seed={seed}')
                yield Run(f'{name}/{work_dir.name}', entry, work_dir, options)
                pretrained = final_checkpoint(load(entry, args.pretrain_options), work_dir)
            for task in TASKS:
                config, given = getattr(args, task), getattr(args, f'{task}_options')
                if config == 'none':
                    continue
                work_dir = args.out / name / f'{task}_seed{seed}'
                options = [*given, *adapted, f'randomness.seed={seed}']
                if pretrained is None:
                    options.append('model.backbone.init_cfg=None')
                else:
                    options.append(f'model.backbone.init_cfg.checkpoint={pretrained}')
                run = f'{name}/{work_dir.name}'
                yield Run(run, config, work_dir, tuple(options))
                trained = final_checkpoint(load(config, given), work_dir)
                yield Run(f'{run}/test', config, work_dir, tuple(options), trained)


def free_port() -> str:
    with socket.socket() as found:
        found.bind(('', 0))
        return str(found.getsockname()[1])


def execute(run: Run, tools: Path, processes: int) -> None:
    """Run one command; all it prints goes into ``output.log`` of its work dir.

    Args:
        run: Training or test.
        tools: Folder of the scripts.
        processes: How many.

    Raises:
        RuntimeError: If it fails.
    """
    run.work_dir.mkdir(parents=True, exist_ok=True)
    log = run.work_dir / 'output.log'
    start = time.monotonic()
    command = run.local_command(tools, processes)
    _call(run.name, command, log, PORT=free_port(), PYTHON=sys.executable)
    run.mark.touch()
    print(f'{run.name}: done in {time.monotonic() - start:.0f} s', flush=True)


def _call(name: str, command: list[str], log: Path, **environment: str) -> None:
    """Run a command, which ends with this process: by a signal upon which it may save.

    Raises:
        MachineError: If it fails.
    """
    with open(log, 'a', encoding='utf-8') as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(os.environ, **environment),
            preexec_fn=partial(die_with_parent, signal.SIGTERM),
        )
        try:
            code = process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if code:
        tail = '\n  '.join(log.read_text(encoding='utf-8', errors='replace').splitlines()[-15:])
        raise MachineError(f'{name} failed, see {log}:\n  {tail}')


def predict(run: Run, tools: Path) -> None:
    """Draw some predictions of a tested network, unless that was done."""
    out = run.work_dir / 'predictions'
    if out.exists():
        return
    unfinished = out.with_name('.predictions.tmp')
    shutil.rmtree(unfinished, ignore_errors=True)  # of a process that was killed
    script = tools / 'visualizations' / 'predict.py'
    command = [sys.executable, script, run.config, run.checkpoint, '--out', unfinished]
    command += ['--max', '6', '--cfg-options', *run.options]
    _call(
        f'{run.name}, predictions',
        [*map(str, command)],
        run.work_dir / 'output.log',
        PYTHONPATH=str(tools.parent),
    )
    unfinished.rename(out)


def execute_all(runs: list[Run], tools: Path, processes: int) -> None:
    """Execute those that are not complete, in order.

    Raises:
        RuntimeError: If one fails.
    """
    todo = [run for run in runs if not run.mark.exists()]
    print(f'{len(runs)} runs, {len(runs) - len(todo)} of them complete', flush=True)
    for run in todo:
        execute(run, tools, processes)
