"""Whether the batches that workers pass on fit into the machine's shared memory."""

import shutil
from pathlib import Path

import torch
from mmengine.structures import BaseDataElement
from torch.utils.data import DataLoader

from .samplers import SampleKey
from .seeding import kept_generators

FOLDER = Path('/dev/shm')


def too_little_shared_memory(loader: DataLoader, processes: int = 1) -> str | None:
    """Finds out whether the batches that wait to be used fit into ``/dev/shm``.

    Workers pass tensors on in shared memory, of which Docker gives a container 64 MB. When it is
    full, the kernel ends a worker by SIGBUS.

    Args:
        loader: Loader of a training. One sample is drawn, with no trace in any generator.
        processes: Processes of the run on this machine, each with such a loader.

    Returns:
        One sentence with both sizes and what to do; None if they fit, or cannot be told.
    """
    if not loader.num_workers or not FOLDER.is_dir():
        return None
    sample = _draw(loader)
    if sample is None:
        return None
    size = loader.batch_size or getattr(loader.batch_sampler, 'batch_size', 1)
    waiting = processes * loader.num_workers * loader.prefetch_factor * size
    needed, free = waiting * _shared(sample), shutil.disk_usage(FOLDER).free
    if needed <= free:
        return None
    return (
        f'{FOLDER} has {free / 1e9:.3g} GB free, and the batches of {loader.num_workers} workers'
        f' in {processes} processes may take {needed / 1e9:.3g} GB: a worker that finds it full is '
        f'killed by SIGBUS. Start the container with --shm-size={needed / 2**30 + 1:.0f}g or '
        '--ipc=host, or lower train_dataloader.num_workers (docs/guides/clusters.md)'
    )


def _draw(loader: DataLoader) -> object | None:
    """One sample; None if it cannot be had: the loader will say why."""
    key = SampleKey(0, 0, 0) if getattr(loader.sampler, 'keys', False) else 0
    with kept_generators():
        try:
            return loader.dataset[key]
        except Exception:
            return None


def _shared(part: object) -> int:
    """Bytes of all tensors in a sample."""
    if isinstance(part, torch.Tensor):
        return part.numel() * part.element_size()
    if isinstance(part, BaseDataElement):
        return sum(_shared(value) for value in part.all_values())
    if isinstance(part, dict):
        return sum(_shared(value) for value in part.values())
    return sum(map(_shared, part)) if isinstance(part, list | tuple) else 0
