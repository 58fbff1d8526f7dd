"""What the commands do to processes and memory."""

import os
import platform
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from adpe_mm.launch import one_sentence_errors
from adpe_mm.stopping import STATUS, Stopped, stop

ROOT = Path(__file__).parents[1]
SCRIPT = """
import os
from itertools import count
from torch.utils.data import DataLoader, IterableDataset
from adpe_mm.launch import init_processes, one_sentence_errors

class Endless(IterableDataset):
    def __iter__(self):
        return (os.getpid() for _ in count())

with one_sentence_errors('test'):
    init_processes('pytorch')
    batches = iter(DataLoader(Endless(), num_workers=1, persistent_workers=True))
    print(next(batches).item(), flush=True)
"""


STEPS = """
import resource, sys, torch
from adpe_mm.launch import keep_freed_memory

if sys.argv[1] == 'keep':
    keep_freed_memory()
for _ in range(10):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    tensors = [torch.ones(10_000_000) for _ in range(10)]
    del tensors
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='another C library')
def test_freed_memory_is_kept():
    """Steps that need the same memory get it without a page fault, once they have settled."""

    def faults_of_the_tenth_step(word):
        command = [sys.executable, '-c', STEPS, word]
        env = dict(os.environ, PYTHONPATH=str(ROOT), CUDA_VISIBLE_DEVICES='')
        done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True)
        return int(done.stdout.split()[-1])

    assert faults_of_the_tenth_step('keep') < 0.1 * faults_of_the_tenth_step('do not')


def test_no_worker_is_left(tmp_path):
    with socket.socket() as free:
        free.bind(('', 0))
        port = str(free.getsockname()[1])
    alone = dict(RANK='0', WORLD_SIZE='1', MASTER_ADDR='127.0.0.1', MASTER_PORT=port)
    out = tmp_path / 'out'  # a pipe would be waited for until the worker ends, too
    with open(out, 'w') as file:
        subprocess.run(
            [sys.executable, '-c', SCRIPT],
            env=dict(os.environ, PYTHONPATH=str(ROOT), CUDA_VISIBLE_DEVICES='', **alone),
            stdout=file,
            stderr=subprocess.STDOUT,
            timeout=120,
            check=True,
        )
    # Left alone, it would look for its parent every 5 s, or never.
    worker = Path('/proc') / out.read_text().strip()
    for _ in range(20):
        if not worker.exists() or 'State:\tZ' in (worker / 'status').read_text():
            break
        time.sleep(0.1)
    else:
        raise AssertionError('the worker is still there')


def test_a_stop_that_a_library_takes_for_an_error_is_a_stop(monkeypatch, capsys):
    """mmengine, for one, says of whatever happens as it formats a config that the config is bad."""
    monkeypatch.setattr(stop, 'heard', signal.SIGHUP)
    with pytest.raises(SystemExit) as ended, one_sentence_errors('train'):
        try:
            raise Stopped
        except BaseException:
            raise SyntaxError('the whole config')  # noqa: B904
    assert ended.value.code == STATUS
    assert capsys.readouterr().err == 'train: ended by SIGHUP\n'
