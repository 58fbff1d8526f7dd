"""Functions in several processes at once, which exchange tensors over gloo."""

import faulthandler
import os
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def _process(rank: int, number: int, store: str, function, args: tuple) -> None:
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(number), LOCAL_WORLD_SIZE=str(number)
    )
    torch.set_num_threads(1)
    faulthandler.dump_traceback_later(500, exit=True)  # if processes wait for one another
    dist.init_process_group('gloo', init_method=f'file://{store}', rank=rank, world_size=number)
    function(*args)
    dist.destroy_process_group()
    faulthandler.cancel_dump_traceback_later()


def in_processes(number: int, folder: Path, function, *args) -> None:
    """Call a function in as many processes, each of which is a rank of one group.

    They are forked from a process that has imported all, which takes seconds, once.
    """
    mp.get_context('forkserver').set_forkserver_preload(['tests.test_engine.toy'])
    mp.start_processes(
        _process,
        (number, str(folder / f'store{number}'), function, args),
        nprocs=number,
        start_method='forkserver',
    )
