"""The fault campaign finds what differs, is broken or left over, and draws all kinds of faults."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path
from random import Random

import pytest
import torch

from adpe_mm.evaluation.faults import Campaign, Result, table
from adpe_mm.evaluation.faults.moments import ALL, LAUNCHER, WORKER, Fault
from adpe_mm.evaluation.faults.outcomes import differences, left_over, shared_memory, unreadable
from adpe_mm.evaluation.faults.plan import PHASES, STOPPING, Plan
from adpe_mm.evaluation.faults.tries import Try
from tests.test_engine.toy import draw, make_runner

ROOT = Path(__file__).parents[2]
LOGGED = {
    'visualizer': dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')]),
    'default_hooks.checkpoint.max_keep_ckpts': 2,
    'log_processor': dict(window_size=1),
}


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """Work dirs of two runs that are the same, and of one with another lr."""
    folder = tmp_path_factory.mktemp('runs')
    images = draw(folder / 'images')
    for name, lr in (('a', 1e-2), ('b', 1e-2), ('c', 2e-2)):
        options = {**LOGGED, 'optim_wrapper.optimizer.lr': lr}
        make_runner(folder / name, images, options=options).train()
    return folder


def test_the_same_is_the_same(runs):
    assert differences(runs / 'a', runs / 'b') == []
    assert unreadable(runs / 'a') == []
    assert left_over(runs / 'a', runs / 'images', shared_memory(), 0) != []  # images, say


def test_another_run_is_another(runs):
    found = differences(runs / 'c', runs / 'a')
    assert any('iter_10.pth: .state_dict.layers.0.weight differs' in line for line in found)
    assert any('.optimizer.state.0.exp_avg differs' in line for line in found)
    assert any(line.startswith('loss at 3 is') for line in found)
    rounded = differences(runs / 'c', runs / 'a', exact=False)
    assert any('.state_dict.layers.0.weight differs' in line for line in rounded)


def change(path, what):
    checkpoint = torch.load(path, weights_only=False)
    what(checkpoint)
    torch.save(checkpoint, path)


@pytest.mark.parametrize(
    'name, harm, said',
    [
        ('one bit', lambda c: c['state_dict']['layers.2.bias'].mul_(1 + 2**-23), 'layers.2.bias'),
        ('a moment', lambda c: c['optimizer']['state'][1]['exp_avg'].zero_(), 'state.1.exp_avg'),
        ('a seed', lambda c: c['meta'].update(seed=8), '.seed differs'),
        ('a schedule', lambda c: c['param_schedulers'][0].update(last_step=3), 'last_step differs'),
    ],
)
def test_little_is_enough(runs, tmp_path, name, harm, said):
    shutil.copytree(runs / 'a', tmp_path / 'run')
    change(tmp_path / 'run' / 'iter_10.pth', harm)
    (line,) = differences(tmp_path / 'run', runs / 'a')
    assert said in line
    assert (differences(tmp_path / 'run', runs / 'a', exact=False) == []) == (name == 'one bit')


def test_what_is_missing_is_said(runs, tmp_path):
    work_dir = tmp_path / 'run'
    shutil.copytree(runs / 'a', work_dir)
    log = next(work_dir.glob('*/vis_data/scalars.json'))
    lines = log.read_text().splitlines(keepends=True)
    log.write_text(''.join(lines[:4] + lines[5:]))
    (work_dir / 'stopped_iter_3.pth').touch()
    found = differences(work_dir, runs / 'a')
    assert any(line.startswith('not logged: ') and 'loss at 5' in line for line in found)
    assert any('checkpoints' in line and 'stopped_iter_3.pth' in line for line in found)
    assert any('stopped_iter_3.pth' in line for line in unreadable(work_dir))
    (work_dir / 'last_checkpoint').write_text(str(work_dir / 'iter_10.pth'))
    (work_dir / 'iter_10.pth').unlink()
    assert any('iter_10.pth' in line and 'is gone' in line for line in unreadable(work_dir))


def test_left_over(tmp_path):
    for folder in ('run', 'tmp'):
        (tmp_path / folder).mkdir()
    (tmp_path / 'run' / '.iter_3.pth.tmp').touch()
    (tmp_path / 'tmp' / 'torchelastic_x').mkdir()
    process = subprocess.Popen(['true'])
    process.wait()
    segment = Path('/dev/shm', f'torch_{process.pid}_1_0')
    before = shared_memory()
    segment.touch()
    try:
        left = left_over(tmp_path / 'run', tmp_path / 'tmp', before, process.pid)
    finally:
        segment.unlink()
    assert [line.split()[0] for line in left] == ['.iter_3.pth.tmp', 'torchelastic_x', segment.name]


EVENTS = [
    'open .run.lock at 0', 'hook before_train at 0', 'hook before_train_iter at 0',
    'hook before_save_checkpoint at 0', 'open .iter_1.pth.tmp at 0',
    *['write .iter_1.pth.tmp at 0'] * 100, 'fsync .iter_1.pth.tmp at 0',
    'rename .iter_1.pth.tmp at 0', 'write .last_checkpoint.tmp at 0', 'hook before_val at 1',
    'hook after_val_iter at 1', 'hook after_val at 1', 'hook before_train_iter at 1',
]  # fmt: skip


def test_all_kinds_of_faults_are_drawn():
    others = [what for what in EVENTS if 'hook' in what]
    plan = Plan(Random(0), [EVENTS, others], seconds=8.0)
    chains = list(islice(plan.chains(kills=50, stops=20, length=3), 40))
    faults = [fault for chain in chains for fault in chain]
    kills = [fault for fault in faults if fault.kills]
    stops = [fault for fault in faults if not fault.kills]
    assert 70 < len(kills) < 100 and len(kills) + len(stops) == 120
    assert {fault.whom for fault in kills} == {ALL, LAUNCHER, 'process 0', 'process 1', WORKER}
    operations = {event for event in EVENTS if '.pth' in event or 'last_checkpoint' in event}
    assert operations < {fault.event for fault in kills}
    assert {fault.signal for fault in stops} == set(STOPPING)
    assert {fault.whom for fault in stops} == {ALL, LAUNCHER, 'process 0', 'process 1'}
    phases = {event.what: event.phase for rank in plan.by_rank for event in rank}
    assert {phases[fault.event] for fault in stops} == set(PHASES)
    for chain in chains:
        assert [plan._when(fault) for fault in chain] == sorted(map(plan._when, chain))
    again = Plan(Random(0), [EVENTS, others], seconds=8.0)
    assert list(islice(again.chains(50, 20, 3), 40)) == chains


def test_a_fault_is_described_and_counted():
    fault = Fault('SIGKILL', ALL, 0, 'write .iter_1.pth.tmp at 0', 7)
    assert Fault(**json.loads(fault.to_json())) == fault
    assert str(fault).endswith('as process 0 does "write .iter_1.pth.tmp at 0" for the 7. time')
    stop = Fault('SIGHUP', 'process 1', seconds=2.5)
    assert str(stop) == 'SIGHUP to process 1 2.50 s after its start'
    result = Result('seg', 2)
    result.tries = [Try(0, [fault, stop], seconds=1.23), Try(1, [fault], different=['x', 'y'])]
    assert table([result]).splitlines()[2] == '| seg | 2 | 2 | 1 | 2 | 1 | 0 | 0 | 0 | 1.2 |'


@pytest.mark.slow
def test_the_campaign_itself(tmp_path):
    """Few faults: of one process and of two. They happen, and a signal ends all that it started."""
    command = [sys.executable, ROOT / 'tools/analysis_tools/fault_campaign.py']
    command += ['--task', 'pretrain', '--processes', '1', '2', '--kills', '2', '--stops', '2']
    env = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1')
    done = subprocess.run(
        [*command, '--out', tmp_path], capture_output=True, text=True, env=env, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / 'fault_campaign.json').read_text())['results']
    assert [result['processes'] for result in results] == [1, 2]
    for result in results:
        signals = [fault['signal'] for found in result['tries'] for fault in found['faults']]
        assert signals.count('SIGKILL') >= 2 and len(set(signals)) >= 2
    job = subprocess.Popen([*command, '--out', tmp_path], stdout=subprocess.DEVNULL, env=env)
    while not (tmp_path / 'pretrain_1' / 'reference' / '.run.lock').exists():
        assert job.poll() is None
        time.sleep(0.1)
    job.send_signal(signal.SIGTERM)
    assert job.wait(30) == 143
    assert str(tmp_path).encode() not in b''.join(map(command_line, Path('/proc').glob('[0-9]*')))


def command_line(process: Path) -> bytes:
    try:
        return (process / 'cmdline').read_bytes()
    except OSError:
        return b''


def test_a_training_that_fails_by_itself_is_no_campaign(tmp_path, monkeypatch):
    """It says where its last words are."""
    campaign = Campaign(ROOT, 'cls', 1, tmp_path, 0, print)
    shown = type('Run', (), dict(status=1, left=[], said='train: no such data'))
    monkeypatch.setattr(campaign, '_train', lambda *args: shown)
    with pytest.raises(RuntimeError, match=r'ended with 1, .*reference_about/output\.log'):
        campaign._train_without_faults()
