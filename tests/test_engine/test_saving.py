"""What saving needs: room on the disk, no second copy in memory, and something to fall back on."""

import os
import re
import resource
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from adpe_mm.checkpoints import DiskFull, find_resumable, write_checkpoint
from adpe_mm.engine import SafeCheckpointHook
from tests.test_engine.toy import Stopped, draw, make_runner, stop

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    return draw(tmp_path_factory.mktemp('data') / 'images')


@contextmanager
def disk_of(size):
    """No file may grow beyond so many bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def full_from(start, end):
    """Functions to call after iterations, between which the disk is full."""
    disk = disk_of(60_000)
    return {start: disk.__enter__, end: lambda: disk.__exit__(None, None, None)}


def test_a_full_disk_costs_no_run(tmp_path, images):
    """Checkpoints of 3 to 6 do not fit: the one of 2 stays, and is named; that of 7 fits again."""
    options = {'default_hooks.checkpoint.max_keep_ckpts': 1}
    named, left = [], []

    def look():
        named.append(Path((tmp_path / 'last_checkpoint').read_text()).name)
        left.extend(tmp_path.glob('.*'))
        assert find_resumable(tmp_path)[1] is None  # nothing to remark

    moments = full_from(2, 6)
    runner = make_runner(tmp_path, images, {**moments, 3: look, 5: look, 8: look}, options=options)
    runner.train()
    assert named == ['iter_2.pth', 'iter_2.pth', 'iter_8.pth'] and not left
    log = next(tmp_path.glob('*/*.log')).read_text()
    said = r"iter_(\d)\.pth' does not fit on its disk \(File too large\): free .*/iter_2\.pth"
    assert re.findall(said, log) == ['3', '4', '5', '6']
    assert [path.name for path in tmp_path.glob('*.pth')] == ['iter_10.pth']


def test_a_full_disk_ends_the_run_if_the_config_says_so(tmp_path, images):
    options = {'default_hooks.checkpoint.on_full_disk': 'stop'}
    moments = full_from(2, 3)
    try:
        with pytest.raises(DiskFull, match=r"iter_3\.pth' does not fit on its disk"):
            make_runner(tmp_path, images, moments, options=options).train()
    finally:
        moments[3]()
    assert {path.name for path in tmp_path.glob('*.pth')} == {'iter_1.pth', 'iter_2.pth'}
    with pytest.raises(ValueError, match="on_full_disk must be 'warn' or 'stop', got 'ask'"):
        make_runner(tmp_path, images, options={'default_hooks.checkpoint.on_full_disk': 'ask'})


def test_room_is_looked_for_before_writing(tmp_path, monkeypatch):
    monkeypatch.setattr(
        shutil, 'disk_usage', lambda path: shutil._ntuple_diskusage(9, 9, 3_999_999)
    )
    path = tmp_path / 'a.pth'
    values = dict(a=torch.zeros(1000, 1000), b=[torch.zeros(5)])
    values['c'] = values['a'][:10]  # of the same memory
    with pytest.raises(DiskFull, match=r"a\.pth' needs 0\.004 GB and its disk has 0\.004 GB"):
        write_checkpoint(values, path)
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    write_checkpoint(values, path)
    assert torch.equal(torch.load(path)['c'], values['c'])


MEMORY = """
import resource, sys, torch
from adpe_mm.checkpoints import write_checkpoint
values = dict(a=torch.ones(50_000_000), b=torch.ones(50_000_000))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
write_checkpoint(values, sys.argv[1])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_saving_needs_no_second_copy(tmp_path):
    """Of 400 MB; by way of a buffer in memory it took 800 MB more."""
    done = subprocess.run(
        [sys.executable, '-c', MEMORY, tmp_path / 'a.pth'],
        env=dict(os.environ, PYTHONPATH=str(ROOT)), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert int(done.stdout) < 50_000  # kB


def test_the_best_goes_only_when_a_better_one_is_safe(tmp_path, images, monkeypatch):
    runner = make_runner(
        tmp_path,
        images,
        options={
            'default_hooks.checkpoint': dict(interval=1, by_epoch=True, save_best='a', rule='less')
        },
    )
    hook = next(hook for hook in runner.hooks if isinstance(hook, SafeCheckpointHook))
    seen = []
    real = os.replace

    def look(*args):
        seen.append({path.name for path in tmp_path.glob('best*')})
        real(*args)

    runner.train()
    hook._save_best_checkpoint(runner, dict(a=1.0))
    first = {path.name for path in tmp_path.glob('best*')}
    runner.train_loop._epoch += 1
    monkeypatch.setattr(os, 'replace', look)
    hook._save_best_checkpoint(runner, dict(a=0.5))
    assert first <= seen[0] and len(first) == 1
    assert {path.name for path in tmp_path.glob('best*')} == {'best_a_epoch_3.pth'}
    hook._save_best_checkpoint(runner, dict(a=0.7))
    assert hook.best_ckpt_path == str(tmp_path / 'best_a_epoch_3.pth')


def test_what_a_killed_one_did_not_remove_goes_on_resumption(tmp_path, images, monkeypatch):
    options = {'default_hooks.checkpoint.max_keep_ckpts': 1}

    def killed(self, names):
        if 'iter_3.pth' in names:
            raise Stopped

    monkeypatch.setattr(SafeCheckpointHook, '_remove', killed)
    with pytest.raises(Stopped):
        make_runner(tmp_path, images, options=options).train()
    monkeypatch.undo()
    (tmp_path / 'stopped_iter_2.pth').touch()  # written, but never named as the last one
    assert {path.name for path in tmp_path.glob('iter_[34].pth')} == {'iter_3.pth', 'iter_4.pth'}
    with pytest.raises(Stopped):
        make_runner(tmp_path, images, {6: stop}, options=dict(options, resume=True)).train()
    assert not list(tmp_path.glob('iter_3.pth')) and not list(tmp_path.glob('stopped*'))
    assert [path.name for path in tmp_path.glob('iter_[4-9].pth')] == ['iter_6.pth']
