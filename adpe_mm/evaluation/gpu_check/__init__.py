"""One report on whether and how fast this package works on a machine's GPU: see `run_all`."""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from .numerics import check_kernels, check_steps, check_waiting
from .rows import Row, as_markdown, read_report, run_checks, write_report
from .runs import Training, check_processes, check_resume
from .throughput import check_loader, check_operations, check_peak, check_pretraining, check_tasks

__all__ = ['Row', 'as_markdown', 'read_report', 'run_all', 'write_report']

TASKS = (
    'configs/pretrain/adpe_vit-b_1600e.py',
    'configs/seg/upernet_adpe-vit-b_160k_ade20k-512x512.py',
    'configs/det/mask-rcnn_adpe-vit-b_100e_coco.py',
)


def run_all(root: Path, quick: bool, say: Callable[[str], None]) -> list[Row]:
    """All checks, in about ten minutes on a GPU, or two if quick.

    Args:
        root: Folder with configs and tools.
        quick: One architecture, fewer turns, no compiling, no whole steps of tasks.
        say: Called with each row as it comes.
    """
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    gpu = device == 'cuda'
    archs = dict(b=256) if gpu else {}
    if gpu and not quick:
        archs['l'] = 128
    repeats = 3 if quick else 5
    tasks = [root / config for config in TASKS] if gpu and not quick else []

    def no_gpu(what: str):
        yield Row(what, 'all of it', 'skipped', 'needs a GPU' if not gpu else 'left out by --quick')

    with tempfile.TemporaryDirectory(prefix='gpu_check_') as folder:
        training = Training(root, Path(folder))
        checks = {
            'steps': partial(check_steps, device),
            'attention': partial(check_kernels, device),
            'waiting': partial(check_waiting, device),
            'products': partial(check_peak, device),
            'pretraining': partial(check_pretraining, archs, repeats, not quick)
            if archs
            else partial(no_gpu, 'pretraining'),
            'tasks': partial(check_tasks, tasks, device, repeats)
            if tasks
            else partial(no_gpu, 'tasks'),
            'operations': partial(check_operations, device, 'b', 256)
            if gpu
            else partial(no_gpu, 'operations'),
            'loader': partial(check_loader, repeats, [1] if quick else [1, 4]),
            'resume': partial(check_resume, training),
            'processes': partial(check_processes, training, 2),
        }
        return run_checks(checks, say)
