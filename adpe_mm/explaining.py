"""What libraries raise for a user's mistake, or for what a machine lacks, said in one sentence.

Only what is known for certain, by its class or by the config that was being built: all else keeps
its traceback.
"""

import errno
import re
from collections.abc import Iterator
from types import FrameType

import torch

from adpe_mm.errors import MachineError, UserError

# Errors of the operating system that say all themselves.
_OF_FILES = {
    errno.EACCES: 'is not allowed',
    errno.EPERM: 'is not allowed',
    errno.EROFS: 'is not possible, as its disk is read-only',
    errno.ENOSPC: 'failed, as the disk is full',
    errno.EDQUOT: 'failed, as the quota of the disk is used up',
    errno.ENAMETOOLONG: 'failed, as its name is too long',
}
# Functions of mmengine that call a class with the settings of a config.
_BUILDERS = ('build_from_cfg', 'build_dataloader')


def explain(error: BaseException) -> UserError | None:
    """The error to show instead of a library's, if it is one of those that a user can mend.

    Args:
        error: What ended a command.
    """
    explained = _of_memory(error) or _of_worker(error) or _of_port(error) or _of_process(error)
    if explained is None and isinstance(error, OSError):
        explained = _of_file(error)
    return explained or _of_config(error)


def _of_memory(error: BaseException) -> UserError | None:
    if isinstance(error, torch.OutOfMemoryError):
        where = 'the GPU has'
    elif isinstance(error, RuntimeError) and "can't allocate memory" in str(error):
        where = 'this machine has'
    else:
        return None
    return MachineError(
        f'{where} not enough memory: lower train_dataloader.batch_size, and raise '
        'optim_wrapper.accumulative_counts as much to keep the batch of a step; or set '
        'model.backbone.with_cp=True, which stores less and computes it again; '
        'tools/analysis_tools/plan_run.py estimates what a config needs'
    )


def _of_worker(error: BaseException) -> UserError | None:
    text = str(error)
    if not isinstance(error, RuntimeError) or 'DataLoader worker' not in text:
        return None
    if 'bus error' in text or 'shared memory' in text or 'Bus error' in text:
        return MachineError(
            'a process of the loader was killed as /dev/shm is full, through which batches pass: '
            'make it larger (docker run --shm-size=16g), or lower train_dataloader.num_workers or '
            'batch_size'
        )
    if 'is killed by signal' in text or 'exited unexpectedly' in text:
        return MachineError(
            'a process of the loader was killed from outside, usually by the system as memory ran '
            'out (see dmesg): lower train_dataloader.num_workers or batch_size, and continue with '
            '--resume'
        )
    return None


def _of_port(error: BaseException) -> UserError | None:
    text = str(error)
    if isinstance(error, RuntimeError) and re.search('EADDRINUSE|address already in use', text):
        port = re.search(r'port: (\d+)', text)
        return MachineError(
            f'the port {port[1] if port else "of MASTER_PORT"} is in use, maybe by another run: '
            'set another one, as in MASTER_PORT=29511'
        )
    return None


def _of_process(error: BaseException) -> UserError | None:
    text = str(error)
    if isinstance(error, RuntimeError) and re.search(
        r'gloo/transport/.*(Connection (closed|reset) by peer|Broken pipe)', text
    ):
        return MachineError(
            'another process of this run has ended, and this one with it: see what that one said, '
            'and continue with --resume'
        )
    return None


def _of_file(error: OSError) -> UserError | None:
    if error.errno not in _OF_FILES or error.filename is None and error.errno != errno.ENOSPC:
        return None
    what = f"access to '{error.filename}'" if error.filename is not None else 'writing a file'
    return MachineError(
        f'{what} {_OF_FILES[error.errno]}: make room or give permission, or name another place, '
        'such as another --work-dir'
    )


def _of_config(error: BaseException) -> UserError | None:
    """A type or an argument that a config has and no class."""
    text = str(error.args[0]) if error.args else ''
    built = next(_configs(error), None)
    if built is None:
        return None
    if isinstance(error, KeyError) and (
        match := re.match(r'(\S+) is not in the \S*?::(.+?) registry', text)
    ):
        return UserError(
            f"the config has type='{match[1]}', and there is no such {match[2]}: correct its name, "
            'or import what registers it, by custom_imports'
        )
    if not isinstance(error, TypeError):
        return None
    kind = built.get('type', 'DataLoader')
    kind = kind if isinstance(kind, str) else getattr(kind, '__name__', kind)
    match = re.search(r"unexpected keyword argument '(\w+)'", text)
    if match and any(match[1] in config for config in _configs(error)):
        return UserError(
            f"the config gives '{match[1]}' to type='{kind}', which has no such argument: correct "
            'or remove it'
        )
    match = re.search(r'missing \d+ required (?:positional|keyword-only) arguments?: (.*)', text)
    if match and _frames(error)[-1].f_code.co_name in _BUILDERS:
        return UserError(f"type='{kind}' of the config needs {match[1]}: add it")
    return None


def _frames(error: BaseException) -> list[FrameType]:
    frames, trace = [], error.__traceback__
    while trace is not None:
        frames.append(trace.tb_frame)
        trace = trace.tb_next
    return frames


def _configs(error: BaseException) -> Iterator[dict]:
    """The settings that were being built as an error was raised, inner ones first."""
    for frame in reversed(_frames(error)):
        if frame.f_code.co_name in _BUILDERS:
            for name in ('cfg', 'dataloader_cfg'):
                if isinstance(frame.f_locals.get(name), dict):
                    yield frame.f_locals[name]
