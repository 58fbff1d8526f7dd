"""What every command of `tools/` needs to start: processes, precision, readable errors."""

import argparse
import ctypes
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed
from mmengine.config import Config

from adpe_mm import devices
from adpe_mm.datasets import fit_channels, share_classes
from adpe_mm.errors import MissingFile, UserError
from adpe_mm.explaining import explain
from adpe_mm.options import ConfigOptions, merge_options
from adpe_mm.processes import join_processes
from adpe_mm.stopping import Stopped, end_workers, stop

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # of malloc.h


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments that every command with a config shares, as OpenMMLab has them."""
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='folder of logs and checkpoints')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=ConfigOptions,
        help='overrides of the config, key=value; lists as key="[a,b]" or key=a,b',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='how the processes were started',
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)


def read_config(path: str | Path, options: dict | None = None) -> Config:
    """A config file with overrides, for a command that runs it.

    Raises:
        FileNotFoundError: If there is no such config.
        RuntimeError: If this machine has GPUs that torch does not see.
        ValueError: If brackets of an override do not match, if `classes` and `mask_values` do not
            make sense (see `share_classes`), or if a loader reads other bands than the backbone
            takes (see `fit_channels`).
    """
    devices.require()
    if not Path(path).is_file():
        raise MissingFile(f"there is no config '{path}': see configs/")
    try:
        cfg = Config.fromfile(path)
    except Exception as error:  # its text is code, and so may be anything
        raise UserError(f"'{path}' is no config: {_first_line(error)}") from error
    merge_options(cfg, options or {})
    share_classes(cfg)
    fit_channels(cfg)
    return cfg


def _first_line(error: Exception) -> str:
    """What is wrong with a config; mmengine takes out its file's name, and adds lists of paths."""
    if isinstance(error, SyntaxError):
        return f'line {error.lineno}: {error.msg}'
    return f'{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ""}'


def load_config(args: argparse.Namespace) -> Config:
    """The config of the command line: file, overrides, work dir, launcher.

    Raises:
        FileNotFoundError: If there is no such config.
        RuntimeError: If this machine has GPUs that torch does not see.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = read_config(args.config, args.cfg_options)
    cfg.launcher = args.launcher
    if args.work_dir:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / Path(args.config).stem)
    return cfg


def without_pinned_memory(cfg: Config) -> None:
    """Pin nothing where there is no GPU: torch would warn."""
    if not torch.cuda.is_available():
        for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
            if cfg.get(name):
                cfg[name].pin_memory = False


def keep_freed_memory() -> None:
    """Let the C library keep what is freed, where tensors live in its memory: without a GPU.

    By default every large tensor is new memory of the kernel, which has to clear each page of it: a
    tenth of a ViT-B's step in bfloat16 (docs/speed.md). Processes that are forked later inherit it.
    glibc only; elsewhere, and with a GPU, it does nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None) if sys.platform == 'linux' else None
    if mallopt is None or torch.cuda.is_available():
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(M_TOP_PAD, 2**26)


def init_processes(launcher: str, options: dict | None = None) -> None:
    """Hear signals from now on, and join the processes of the run: see `join_processes`."""
    stop.listen()
    join_processes(launcher, options)


def _sentence(error: UserError) -> str:
    """What was raised at first: mmengine puts the names of its own classes before it.

    Of a worker's error only the text of its traceback arrives, which ends with the sentence.
    """
    root: BaseException | None = error
    while root is not None:
        if isinstance(root, UserError) and str(error).endswith(str(root)):
            error = root
        root = root.__context__
    text = str(error)
    if 'in DataLoader worker process' in text:
        text = re.split(rf'^{re.escape(type(error).__module__)}\.\w+: ', text, flags=re.M)[-1]
    return text.strip()


def _stop_behind(error: BaseException | None) -> Stopped | None:
    """The stop that an error is, or that a library's bare `except` has made it of."""
    while error is not None and not isinstance(error, Stopped):
        error = error.__cause__ or error.__context__
    return error


@contextmanager
def one_sentence_errors(command: str) -> Iterator[None]:
    """Show a user's mistake, a `UserError`, as its sentence; all else keeps its traceback.

    Some errors of libraries are such mistakes too: see `explain`. With ``--traceback`` on the
    command line, which every command has, nothing is shortened.
    """
    show_all = '--traceback' in sys.argv
    sys.argv = [word for word in sys.argv if word != '--traceback']
    try:
        yield
    except BaseException as error:
        end_workers()
        stopped = _stop_behind(error)
        if stopped is not None:
            if not stopped.together:
                print(f'{command}: ended by {stop.heard.name}', file=sys.stderr)
            _leave(stopped.code, stopped.together)
            raise stopped from None
        helped = isinstance(error, SystemExit) and error.code in (0, None)
        if helped and {'-h', '--help'} & set(sys.argv):
            print('\n  --traceback           show errors in full, not as one sentence')
        if not isinstance(error, Exception):
            raise
        explained = error if isinstance(error, UserError) else explain(error)
        if show_all or explained is None:
            raise
        sys.exit(f'{command}: {_sentence(explained)}')
    _leave(0)


def _leave(status: int, together: bool = True) -> None:
    """End a process that has others beside it.

    Args:
        status: Of its exit.
        together: Whether the others come here, too. After an error they may never do so.
    """
    if not torch.distributed.is_initialized():
        return
    if together:
        torch.distributed.destroy_process_group()
    if together and torch.cuda.is_available():
        sys.exit(status)
    # DDP still holds gloo's threads, which now and then abort Python as it ends, after all is done
    # and saved. Nobody else would end the loader's processes then.
    end_workers()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
