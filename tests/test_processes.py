"""Ranks, devices and ports, as launchers say them: in environments as they make them."""

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch.distributed as dist

from adpe_mm.processes import (
    Place,
    find_place,
    first_machine,
    join_processes,
    local_processes,
    port_of_job,
)
from adpe_mm.stopping import STATUS, Stop, Stopped, outlive_signals, stop

ROOT = Path(__file__).parents[1]
FORK = multiprocessing.get_context('fork')


def slurm(rank, job='4711', step='0'):
    """Of process `rank` among 2 nodes of 4."""
    return dict(
        SLURM_PROCID=str(rank), SLURM_NTASKS='8', SLURM_LOCALID=str(rank % 4), SLURM_JOB_ID=job,
        SLURM_STEP_ID=step, SLURM_STEP_TASKS_PER_NODE='4(x2)', SLURM_STEP_NODELIST='node[3,7]',
    )  # fmt: skip


def openmpi(rank):
    return dict(
        OMPI_COMM_WORLD_RANK=str(rank), OMPI_COMM_WORLD_SIZE='8',
        OMPI_COMM_WORLD_LOCAL_RANK=str(rank % 4), OMPI_COMM_WORLD_LOCAL_SIZE='4',
        PMIX_NAMESPACE='prterun-node3-815@1',
    )  # fmt: skip


def mpich(rank):
    return dict(
        PMI_RANK=str(rank), PMI_SIZE='8', MPI_LOCALRANKID=str(rank % 4), MPI_LOCALNRANKS='4'
    )


@pytest.mark.parametrize(
    'launcher, make', [('slurm', slurm), ('mpi', openmpi), ('mpi', mpich), ('mpi', slurm)]
)
def test_each_process_has_a_device_of_its_own(launcher, make):
    places = [find_place(launcher, make(rank), gpus=4) for rank in range(8)]
    assert [place.rank for place in places] == list(range(8))
    assert {place.number for place in places} == {8}
    assert [place.device for place in places] == [0, 1, 2, 3] * 2
    assert len({place.port for place in places}) == 1
    assert local_processes(make(0)) == 4


@pytest.mark.parametrize('gpus', [0, 1])
def test_the_only_gpu_that_is_seen_is_its_own(gpus):
    """As with ``srun --gpus-per-task=1``."""
    assert {find_place('slurm', slurm(rank), gpus).device for rank in range(8)} == {0}


def test_torchrun():
    env = dict(RANK='5', WORLD_SIZE='8', LOCAL_RANK='1', LOCAL_WORLD_SIZE='4', MASTER_PORT='1234')
    assert find_place('pytorch', env, gpus=4) == Place(5, 8, 1, 1, 1234)


def test_jobs_on_one_machine_do_not_meet():
    jobs = [slurm(0, str(4711 + job), step) for job in range(4) for step in '01']
    ports = {port_of_job(env) for env in jobs}
    assert len(ports) == len(jobs)
    # None that Linux gives away by itself (net.ipv4.ip_local_port_range), nor a privileged one.
    assert all(1024 < port < 32768 for port in ports)
    assert port_of_job(dict(slurm(0), MASTER_PORT='29511')) == 29511
    assert port_of_job({}) == 29500


def test_where_process_0_runs(tmp_path, monkeypatch):
    scontrol = tmp_path / 'scontrol'
    scontrol.write_text(
        '#!/bin/sh\n[ "$*" = "show hostnames node[3,7]" ] && printf "node3\\nnode7\\n"\n'
    )
    scontrol.chmod(0o755)
    monkeypatch.setenv('PATH', str(tmp_path), prepend=os.pathsep)
    place = find_place('slurm', slurm(5), gpus=4)
    assert first_machine(place, slurm(5)) == 'node3'
    assert first_machine(place, dict(slurm(5), MASTER_ADDR='other')) == 'other'
    assert first_machine(place, dict(SLURM_JOB_NODELIST='node9')) == 'node9'
    alone = dict(openmpi(1), OMPI_COMM_WORLD_LOCAL_SIZE='8')
    assert first_machine(place, alone) == '127.0.0.1'
    with pytest.raises(RuntimeError, match='MASTER_ADDR must name .* mpirun -x MASTER_ADDR=node0'):
        first_machine(place, openmpi(1))


def test_mistakes_are_one_sentence():
    with pytest.raises(RuntimeError, match='--launcher slurm needs SLURM_PROCID .* by srun'):
        find_place('slurm', {}, gpus=1)
    with pytest.raises(RuntimeError, match='process 3 is number 3 on its machine.* sees 2 GPUs'):
        find_place('slurm', slurm(3), gpus=2)


CHILD = """
import os, signal, subprocess, sys
from adpe_mm.stopping import die_with_parent
child = subprocess.Popen(['sleep', '60'], preexec_fn=lambda: die_with_parent(signal.SIGTERM))
print(child.pid, flush=True)
child.wait()
"""


def test_a_child_ends_with_its_parent():
    parent = subprocess.Popen(
        [sys.executable, '-c', CHILD], stdout=subprocess.PIPE, text=True,
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
    )  # fmt: skip
    child = Path('/proc') / parent.stdout.readline().strip()
    assert child.exists()
    parent.kill()
    parent.wait()
    for _ in range(50):
        if not child.exists() or 'State:\tZ' in (child / 'status').read_text():
            return
        time.sleep(0.1)
    os.kill(int(child.name), signal.SIGKILL)
    raise AssertionError('the child is still there')


def works(parent_is_gone, pipe):
    pipe.send(os.getpid())
    parent_is_gone.wait()
    outlive_signals()
    pipe.send('lives on')


def has_a_worker(parent_is_gone, pipe):
    FORK.Process(target=works, args=(parent_is_gone, pipe)).start()
    time.sleep(60)


def test_a_worker_whose_parent_was_killed_as_it_began_ends():
    ours, theirs = FORK.Pipe()
    parent_is_gone = FORK.Event()
    parent = FORK.Process(target=has_a_worker, args=(parent_is_gone, theirs), daemon=False)
    parent.start()
    theirs.close()
    ours.recv()
    parent.kill()
    parent.join()
    parent_is_gone.set()
    with pytest.raises(EOFError):  # nobody holds the other end any more
        ours.recv()


def joins_alone(ready, port):
    os.environ.update(
        RANK='0', WORLD_SIZE='2', LOCAL_RANK='0', MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port)
    )
    stop.listen()
    ready.set()
    join_processes('pytorch')


def begins_alone(ready, rank, store):
    dist.init_process_group('gloo', init_method=f'file://{store}', rank=rank, world_size=2)
    stop.listen()
    if rank:
        os._exit(0)  # stopped before it came to its training
    ready.set()
    stop.begin()


def ends_soon(job, ready, number):
    assert ready.wait(60)
    time.sleep(0.5)
    assert job.is_alive()
    os.kill(job.pid, number)
    job.join(10)
    ended = not job.is_alive()
    job.kill()
    assert ended
    return job.exitcode


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_one_that_waits_for_the_others_hears_a_signal(number):
    with socket.create_server(('127.0.0.1', 0)) as free:
        port = free.getsockname()[1]
    context = multiprocessing.get_context('fork')
    ready = context.Event()
    job = context.Process(target=joins_alone, args=(ready, port))
    job.start()
    assert ends_soon(job, ready, number) == -number


def test_so_does_one_whose_training_the_others_never_begin(tmp_path):
    context = multiprocessing.get_context('fork')
    ready = context.Event()
    arguments = [(ready, rank, tmp_path / 'store') for rank in (0, 1)]
    jobs = [context.Process(target=begins_alone, args=a) for a in arguments]
    for job in jobs:
        job.start()
    assert ends_soon(jobs[0], ready, signal.SIGTERM) == STATUS


def test_a_stop_that_a_library_swallowed_comes_before_the_training():
    heard = Stop()
    heard.listen()
    try:
        with suppress(Stopped):
            os.kill(os.getpid(), signal.SIGUSR1)
        with pytest.raises(Stopped):
            heard.begin()
    finally:
        heard.forget()


def test_a_signal_at_the_exit_of_python_ends_it_without_a_traceback():
    code = (
        'import atexit, sys, time\n'
        'atexit.register(lambda: print("exiting", flush=True) or time.sleep(30))\n'
        'from adpe_mm.stopping import stop\n'
        'stop.listen()\n'
    )
    process = subprocess.Popen(
        [sys.executable, '-c', code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == 'exiting\n'
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=20)
    assert process.returncode == STATUS and 'Traceback' not in said
