"""The shell launchers, with stand-ins for python and srun that print what they are given."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


OF_THE_LAUNCHERS = ('NNODES', 'NODE_RANK', 'MASTER_ADDR', 'PORT', 'GPUS', 'PYTHONPATH', 'PYTHON')


@pytest.fixture
def stand_in(tmp_path):
    for name in ('python', 'srun'):
        script = tmp_path / name
        # What is asked of Python itself, such as for a free port, is no stand-in's business.
        script.write_text(
            f'#!/bin/sh\n[ "$1" = -c ] && exec {sys.executable} "$@"\n'
            'printf "%s\\n" "$0" "$PYTHONPATH" "$@"\n'
        )
        script.chmod(0o755)
    return tmp_path


def run(script, *arguments, stand_in, **environment):
    env = {k: v for k, v in os.environ.items() if k not in OF_THE_LAUNCHERS}
    env |= dict(PATH=f'{stand_in}:{env["PATH"]}', **environment)
    return subprocess.run(
        ['bash', ROOT / 'tools' / script, *arguments], capture_output=True, text=True, env=env
    )


def test_dist_train_on_one_machine(stand_in):
    done = run('dist_train.sh', 'c.py', '8', '--resume', '--work-dir', 'a b', stand_in=stand_in)
    lines = done.stdout.splitlines()
    # First it asks whether so many processes can run here.
    assert lines[1:5] == [str(ROOT), '-m', 'adpe_mm.devices', '8']
    port = lines.pop(12)
    assert lines[6:] == [
        str(ROOT), '-m', 'adpe_mm.torchrun',
        '--nnodes=1', '--node_rank=0', '--master_addr=127.0.0.1',
        '--nproc_per_node=8', str(ROOT / 'tools' / 'train.py'),
        'c.py', '--resume', '--work-dir', 'a b', '--launcher', 'pytorch',
    ]  # fmt: skip
    assert re.fullmatch(r'--master_port=\d{4,5}', port)


def test_runs_on_one_machine_do_not_meet(stand_in):
    ports = set()
    for _ in range(3):
        done = run('dist_train.sh', 'c.py', '2', stand_in=stand_in)
        ports |= set(re.findall(r'--master_port=(\d+)', done.stdout))
    assert len(ports) == 3
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run('dist_train.sh', 'c.py', '2', stand_in=stand_in, PORT=port)
    assert done.returncode == 2
    assert f'PORT={port} is no free port: another run may have it, leave PORT out' in done.stderr
    done = run('dist_train.sh', 'c.py', '2', stand_in=stand_in, PORT=port)
    assert f'--master_port={port}\n' in done.stdout


def test_dist_train_on_several_machines(stand_in):
    done = run(
        'dist_train.sh', 'c.py', '4',
        stand_in=stand_in, NNODES='3', NODE_RANK='2', MASTER_ADDR='node0', PORT='1234',
    )  # fmt: skip
    assert {
        '--nnodes=3', '--node_rank=2', '--master_addr=node0', '--master_port=1234',
        '--nproc_per_node=4',
    } <= set(done.stdout.splitlines())  # fmt: skip


@pytest.mark.parametrize('gpus, a_node', [('4', '4'), ('32', '8')])
def test_slurm_train(stand_in, gpus, a_node):
    done = run(
        'slurm_train.sh', 'part', 'job', 'c.py', 'work', '--resume',
        stand_in=stand_in, GPUS=gpus, SRUN_ARGS='--signal=USR1@120 --time=1:00',
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert lines[0].endswith('/srun')
    assert {
        '--partition=part', '--job-name=job', f'--gres=gpu:{a_node}', f'--ntasks={gpus}',
        f'--ntasks-per-node={a_node}', '--signal=USR1@120', '--time=1:00',
    } <= set(lines)  # fmt: skip
    assert lines[-8:] == [
        '-u', str(ROOT / 'tools' / 'train.py'), 'c.py', '--work-dir', 'work', '--resume',
        '--launcher', 'slurm',
    ]  # fmt: skip


def test_dist_test(stand_in):
    done = run('dist_test.sh', 'c.py', 'a.pth', '2', '--tta', stand_in=stand_in)
    assert done.stdout.splitlines()[-7:] == [
        '--nproc_per_node=2', str(ROOT / 'tools' / 'test.py'), 'c.py', 'a.pth', '--tta',
        '--launcher', 'pytorch',
    ]  # fmt: skip


def test_slurm_test(stand_in):
    done = run('slurm_test.sh', 'part', 'job', 'c.py', 'a.pth', '--tta', stand_in=stand_in)
    assert done.stdout.splitlines()[-7:] == [
        '-u', str(ROOT / 'tools' / 'test.py'), 'c.py', 'a.pth', '--tta', '--launcher', 'slurm',
    ]  # fmt: skip


def test_machine_that_cannot_run_so_many(stand_in):
    """The check's sentence is all there is."""
    (stand_in / 'python').write_text('#!/bin/sh\necho "devices: 8 GPUs" >&2\nexit 1\n')
    done = run('dist_train.sh', 'c.py', '8', stand_in=stand_in)
    assert (done.returncode, done.stdout, done.stderr) == (1, '', 'devices: 8 GPUs\n')


@pytest.mark.parametrize(
    'processes, environment, said',
    [
        ('0', {}, 'number of GPUs'),
        ('two', {}, "not 'two'"),
        ('8', dict(NNODES='2', NODE_RANK='0'), 'MASTER_ADDR'),
        ('8', dict(NNODES='2', MASTER_ADDR='node0'), 'NODE_RANK'),
    ],
)
def test_launcher_says_what_is_missing(stand_in, processes, environment, said):
    done = run('dist_train.sh', 'c.py', processes, stand_in=stand_in, **environment)
    assert (done.returncode, done.stdout) == (2, '')
    assert done.stderr.startswith('train: ') and done.stderr.count('\n') == 1
    assert said in done.stderr


@pytest.mark.parametrize(
    'script', ['dist_train.sh', 'dist_test.sh', 'slurm_train.sh', 'slurm_test.sh']
)
def test_without_arguments_they_say_how(stand_in, script):
    done = run(script, stand_in=stand_in)
    assert done.returncode == 2 and done.stderr.startswith('usage:')
