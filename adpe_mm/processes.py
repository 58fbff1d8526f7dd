"""The processes of a run: which of them this one is, its device, and how they meet."""

import datetime
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist

from adpe_mm.errors import MachineError, UserError
from adpe_mm.stopping import LAUNCHER, die_with_parent, stop

# Rank, number of processes and rank on its machine, as launchers name them.
SLURM = ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_LOCALID')
MPI = (
    ('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_LOCAL_RANK'),  # OpenMPI
    ('MV2_COMM_WORLD_RANK', 'MV2_COMM_WORLD_SIZE', 'MV2_COMM_WORLD_LOCAL_RANK'),  # MVAPICH2
    ('PMI_RANK', 'PMI_SIZE', 'MPI_LOCALRANKID'),  # MPICH and Intel MPI
    SLURM,  # srun --mpi=pmi2
)
PYTORCH = ('RANK', 'WORLD_SIZE', 'LOCAL_RANK')
T = TypeVar('T')


@dataclass(frozen=True)
class Place:
    """Where a process stands among those of its run.

    Attributes:
        rank: Its number.
        number: How many there are.
        local_rank: Its number on this machine.
        device: The GPU that it uses, counted among those that it sees; 0 without GPUs.
        port: Where process 0 waits for the others, if the environment does not say.
    """

    rank: int
    number: int
    local_rank: int
    device: int
    port: int


def find_place(launcher: str, env: Mapping[str, str], gpus: int) -> Place:
    """Read from the environment what a launcher says.

    Args:
        launcher: 'pytorch', 'slurm' or 'mpi'.
        env: The environment.
        gpus: GPUs that this process sees. If it is one, that is its own, whatever its local rank:
            ``srun --gpus-per-task=1`` and some MPIs hide the others.

    Raises:
        MachineError: If the environment is of no such launcher, or there are too few GPUs.
    """
    kinds = dict(pytorch=(PYTORCH,), slurm=(SLURM,), mpi=MPI)[launcher]
    names = next((names for names in kinds if names[0] in env and names[1] in env), None)
    if names is None:
        wanted = ' or '.join(names[0] for names in kinds)
        start = dict(pytorch='torchrun or tools/dist_train.sh', slurm='srun', mpi='mpirun')
        raise MachineError(
            f'--launcher {launcher} needs {wanted} in the environment: start it by '
            f'{start[launcher]}, or with another --launcher'
        )
    rank, number = int(env[names[0]]), int(env[names[1]])
    local_rank = int(env.get(names[2]) or env.get('SLURM_LOCALID') or rank % max(gpus, 1))
    if 1 < gpus <= local_rank:
        raise MachineError(
            f'process {rank} is number {local_rank} on its machine, counted from 0, and sees '
            f'{gpus} GPUs: start as many processes per machine as it has GPUs'
        )
    device = local_rank if gpus > 1 else 0
    return Place(rank, number, local_rank, device, port_of_job(env))


def local_processes(env: Mapping[str, str]) -> int:
    """Processes of the run on this machine, as far as the environment says; else 1."""
    names = ('LOCAL_WORLD_SIZE', 'OMPI_COMM_WORLD_LOCAL_SIZE', 'MPI_LOCALNRANKS')
    found = next((env[name] for name in names if name in env), None)
    # '8', or '8(x2),4' of machines that have different numbers
    found = found or env.get('SLURM_STEP_TASKS_PER_NODE', '1').split(',')[0].split('(')[0]
    return int(found)


def port_of_job(env: Mapping[str, str]) -> int:
    """The port of ``MASTER_PORT``, or one that other jobs on the same machine hardly have.

    Below 32768, from where on Linux gives ports to whoever asks for any.
    """
    if 'MASTER_PORT' in env:
        return int(env['MASTER_PORT'])
    names = ('SLURM_JOB_ID', 'SLURM_STEP_ID', 'PMIX_NAMESPACE', 'OMPI_MCA_ess_base_jobid')
    job = '.'.join(env[name] for name in names if name in env)
    if not job:
        return 29500  # torch's
    return 15000 + int.from_bytes(hashlib.sha256(job.encode()).digest()[:4], 'big') % 15000


def first_machine(place: Place, env: Mapping[str, str]) -> str:
    """Where process 0 runs: of ``MASTER_ADDR``, of Slurm's list of nodes, or here.

    Raises:
        MachineError: If nothing says it, and some processes run elsewhere.
    """
    if 'MASTER_ADDR' in env:
        return env['MASTER_ADDR']
    nodes = env.get('SLURM_STEP_NODELIST') or env.get('SLURM_JOB_NODELIST')
    if nodes and ('[' in nodes or ',' in nodes):
        listed = subprocess.run(
            ['scontrol', 'show', 'hostnames', nodes], capture_output=True, text=True, check=True
        )
        return listed.stdout.split()[0]
    if nodes:
        return nodes
    if place.number in (1, local_processes(env)):
        return '127.0.0.1'
    raise MachineError(
        'MASTER_ADDR must name the machine of process 0: mpirun -x MASTER_ADDR=node0 (OpenMPI) or '
        '-genv MASTER_ADDR node0 (MPICH)'
    )


def join_processes(launcher: str, options: dict | None = None) -> None:
    """Join the processes of the run: over gloo where there is no GPU.

    Args:
        launcher: What started them; 'none' if there is only this one.
        options: ``env_cfg.dist_cfg`` of the config: ``backend``, ``timeout`` in seconds, and other
            arguments of `torch.distributed.init_process_group`.

    Raises:
        MachineError: See `find_place` and `first_machine`.
    """
    if launcher == 'none' or dist.is_initialized():
        return
    if launcher == 'pytorch':
        launcher_id = os.environ.get(LAUNCHER)
        # Of one that was killed, and can end nobody.
        die_with_parent(signal.SIGTERM, int(launcher_id) if launcher_id else None)
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    place = find_place(launcher, os.environ, gpus)
    os.environ.update(
        MASTER_ADDR=first_machine(place, os.environ),
        MASTER_PORT=str(place.port),
        RANK=str(place.rank),
        WORLD_SIZE=str(place.number),
        LOCAL_RANK=str(place.device),  # as which mmengine takes it
    )
    options = dict(options or {})
    backend = options.pop('backend', 'nccl')
    if 'timeout' in options:
        options['timeout'] = datetime.timedelta(seconds=options['timeout'])
    if gpus:
        torch.cuda.set_device(place.device)
    with stop.ending_at_once():  # the others may never come
        dist.init_process_group(backend if gpus else 'gloo', **options)


def on_main(function: Callable[[], T]) -> T:
    """Call a function in process 0, and return its result in all.

    Raises:
        UserError: In process 0, if the function raises it. The others then end without a word.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return function()
    outcome: list = [None, False]
    error = None
    if dist.get_rank() == 0:
        try:
            outcome = [function(), True]
        except UserError as raised:
            error = raised
    dist.broadcast_object_list(outcome)
    if error is not None:
        raise error
    if not outcome[1]:
        sys.exit(1)
    return outcome[0]
