"""Images of a probe, split over the processes: each reads, encodes and keeps its share.

What a probe needs of all images is summed or gathered over the processes, by the functions at the
end; with one process they return what they are given.
"""

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from mmengine.dist import all_gather_object, all_reduce, get_rank, get_world_size
from mmengine.logging import print_log
from mmengine.utils import ProgressBar
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from adpe_mm.datasets import start_worker
from adpe_mm.errors import UserError

BATCH = 64  # images that are encoded at once


@dataclass(frozen=True)
class Share:
    """The images of one process: every so many-th of all.

    Attributes:
        images: (n, ...), pixels at first, and what is made of them later.
        targets: (n, ...) label of each image, or its mask.
        indices: (n,) places of the images among all.
        total: How many there are in all processes together.
    """

    images: Tensor
    targets: Tensor
    indices: Tensor
    total: int


class _Pairs(Dataset):
    """What is read of an image, and its target, for the images of one process."""

    def __init__(self, images: Dataset, targets: Sequence[int] | Dataset) -> None:
        self.images, self.targets = images, targets
        self.own = range(get_rank(), len(images), get_world_size())

    def __len__(self) -> int:
        return len(self.own)

    def __getitem__(self, place: int) -> tuple[int, str, Tensor | str, Tensor | str]:
        index = self.own[place]
        (key, pixels), target = self.images[index], self.targets[index]
        return index, key, pixels, torch.tensor(target) if isinstance(target, int) else target


def bar(title: str, number: int, progress: bool) -> ProgressBar | None:
    """A bar on stderr, in process 0 and where one is wanted; of a file it would make megabytes."""
    if not progress or get_rank() or not sys.stderr.isatty():
        return None
    sys.stderr.write(f'\n{title}\n')
    return ProgressBar(number, file=sys.stderr)


def read_share(
    images: Dataset, targets: Sequence[int] | Dataset, num_workers: int, progress: bool = False
) -> Share:
    """Read the images of this process.

    Those that cannot be read are left out, and named in the log of process 0.

    Args:
        images: `ImagesInOrder` of all processes' images.
        targets: Label of each, or a data set of tensors, or of the reason why there is none.
        num_workers: Processes that read.
        progress: Whether a bar is drawn on stderr.

    Returns:
        The share; ``images`` are (n, 3, h, w) uint8.

    Raises:
        ValueError: If a process can read none.
    """
    pairs = _Pairs(images, targets)
    loader = DataLoader(
        pairs,
        batch_size=32,
        num_workers=min(num_workers, len(pairs)),
        collate_fn=list,
        worker_init_fn=start_worker,
        generator=torch.Generator(),  # or it would draw from torch's own
    )
    kept, unreadable = [], []
    shown = bar('reading the images of the probe', len(pairs), progress)
    for index, key, pixels, target in chain.from_iterable(loader):
        reason = next((x for x in (pixels, target) if not torch.is_tensor(x)), None)
        if reason is None:
            kept.append((pixels, target, index))
        else:
            unreadable.append((key, reason))
        if shown:
            shown.update()
    for key, reason in chain.from_iterable(all_gather_object(unreadable)):
        print_log(f'skipped {key}: {reason}', logger='current', level=logging.WARNING)
    if not min(all_gather_object(len(kept))):
        raise UserError(
            f'of the {len(images)} images of the probe a process can read none: check them, and '
            'give more images than there are processes'
        )
    pixels, found, indices = zip(*kept, strict=True)
    whole = torch.stack(pixels).permute(0, 3, 1, 2).contiguous()
    return Share(whole, torch.stack(found), torch.tensor(indices), len(images))


def total(value: Tensor) -> Tensor:
    """The sum over all processes, in each of them."""
    value = value.clone()
    all_reduce(value)
    return value


def gather(share: Share) -> tuple[Tensor, Tensor]:
    """Images and targets of all processes, in the order of all, on the share's device."""
    parts = all_gather_object((share.indices, share.images.cpu(), share.targets.cpu()))
    indices, images, targets = (torch.cat(part) for part in zip(*parts, strict=True))
    order, device = indices.argsort(), share.images.device
    return images[order].to(device), targets[order].to(device)


def accuracy(predicted: Tensor, targets: Tensor) -> float:
    """Percent of right predictions over all processes.

    Args:
        predicted: (n,) of this process.
        targets: (n,) of this process.
    """
    right = (predicted == targets).sum()
    counts = total(torch.stack((right, torch.tensor(len(targets), device=right.device))).double())
    return (100 * counts[0] / counts[1]).item()


def standardisation(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel over all processes.

    They are what a BatchNorm without affine has, as in MAE's linear probe
    (facebookresearch/mae, main_linprobe.py), computed over all images instead of a batch.

    Args:
        features: (..., E) of this process.

    Returns:
        Two tensors (E,) float64; the deviation is that of the population, with 1e-6 added to its
        square.
    """
    flat = features.flatten(0, -2).double()
    count = total(flat.new_tensor(len(flat)))
    mean = total(flat.sum(dim=0)) / count
    variance = total((flat - mean).square().sum(dim=0)) / count
    return mean, (variance + 1e-6).sqrt()
