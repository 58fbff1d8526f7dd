"""The input pipeline of pretraining against the official one.

Plain is what the official code does: Pillow, and four times torchvision's RandomResizedCrop, flip,
ToTensor and Normalize.
"""

import argparse
import gc
import io
import tempfile
from collections.abc import Callable, Sized
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate
from torchvision import transforms as T

from adpe_mm.datasets import EpochSampler, Images, SampleKey, collate_crops, start_worker
from adpe_mm.errors import UserError

from .timing import alternate, medians, ratio

BATCHES = 5  # of each worker


class PlainImages(Dataset):
    """The official input pipeline: crops are float and normalised before they are stacked."""

    def __init__(self, paths: list[str], num_crops: int, size: int) -> None:
        self.paths = paths
        self.num_crops = num_crops
        self.transform = T.Compose(
            [
                T.RandomResizedCrop(size, (0.08, 1.0), interpolation=T.InterpolationMode.BICUBIC),
                T.RandomHorizontalFlip(),
                T.ToTensor(),
                T.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> list[Tensor]:
        with open(self.paths[index], 'rb') as file:
            image = Image.open(file).convert('RGB')
        return [self.transform(image) for _ in range(self.num_crops)]


def make_images(folder: Path, number: int, size: tuple[int, int], kilobytes: float) -> None:
    """Write JPEGs, parts of scikit-image's photographs.

    Args:
        folder: Where.
        number: How many.
        size: Width and height, in pixels.
        kilobytes: Of each file, about.
    """
    from skimage import data  # is needed for development only

    names = ('astronaut', 'cat', 'coffee', 'rocket', 'hubble_deep_field', 'immunohistochemistry')
    photos = [Image.fromarray(getattr(data, name)()) for name in names]
    rng = np.random.default_rng(0)
    for i in range(number):
        photo = photos[i % len(photos)]
        shrink = rng.uniform(0.75, 1) * min(photo.width / size[0], photo.height / size[1])
        width, height = (int(length * shrink) for length in size)
        left, top = rng.integers(photo.width - width + 1), rng.integers(photo.height - height + 1)
        part = photo.crop((left, top, left + width, top + height)).resize(size)
        lowest, highest = 30, 98
        while lowest < highest:  # the quality that comes to so many bytes
            quality = (lowest + highest) // 2
            file = io.BytesIO()
            part.save(file, 'JPEG', quality=quality)
            if len(file.getvalue()) < 1000 * kilobytes:
                lowest = quality + 1
            else:
                highest = quality
        (folder / f'{i:04}.jpg').write_bytes(file.getvalue())


def batches(dataset: Sized, collate: Callable, batch_size: int, turns: list[int]) -> int:
    """Load all images in this process, with new crops in each turn; returns how many."""
    turns[0] += 1
    ours = isinstance(dataset, Images)
    for start in range(0, len(dataset), batch_size):
        indices = range(start, min(start + batch_size, len(dataset)))
        collate([dataset[SampleKey(i, turns[0], 0) if ours else i] for i in indices])
    return len(dataset)


def epoch(loader: DataLoader) -> int:
    """Load all batches by worker processes; returns how many."""
    return sum(1 for _ in loader)


def benchmark_input(args: argparse.Namespace) -> dict:
    """Images per second, from files to batches: plain and ours, in this process and by workers."""
    if min(args.repeats, args.images, args.batch_size, *args.workers, *args.size) < 1:
        raise UserError(
            '--repeats, --images, --size, --batch-size and --workers must be at least 1'
        )
    torch.set_num_threads(1)
    crops = dict(num_crops=4, size=args.crop)
    pipeline = [
        dict(type='adpe_mm.MultiCrop', reducing_gap=args.reducing_gap, **crops),
        dict(type='adpe_mm.PackCrops'),
    ]
    with tempfile.TemporaryDirectory() as folder:
        if args.folder is None:
            make_images(Path(folder), args.images, args.size, args.kilobytes)
        ours = Images(data_root=args.folder or folder, pipeline=pipeline)
        paths = [ours.get_data_info(i)['img_path'] for i in range(len(ours))]
        plain = PlainImages(paths, **crops)
        gc.freeze()  # as our workers do; here it is to the good of both
        runs = dict(
            plain=partial(batches, plain, default_collate, args.batch_size, [0]),
            ours=partial(batches, ours, collate_crops, args.batch_size, [0]),
        )
        seconds = alternate(runs, args.repeats, args.warmup)
        # An epoch of many batches for each worker: its first and its last ones are waited for.
        times = 1 + BATCHES * args.batch_size * max(args.workers) // len(paths)
        listing = Path(folder, 'listing.txt')
        listing.write_text('\n'.join(str(Path(path).resolve()) for path in times * paths))
        repeated = Images(ann_file=str(listing), pipeline=pipeline)
        common = dict(batch_size=args.batch_size, persistent_workers=True)
        common['worker_init_fn'] = start_worker
        loaders = {
            'plain, 1 worker': DataLoader(
                PlainImages(times * paths, **crops), shuffle=True, num_workers=1, **common
            )
        }
        for number in args.workers:
            loaders[f'ours, {number} worker' + 's' * (number > 1)] = DataLoader(
                repeated,
                sampler=EpochSampler(repeated, seed=0),
                num_workers=number,
                collate_fn=collate_crops,
                **common,
            )
        calls = {name: partial(epoch, loader) for name, loader in loaders.items()}
        seconds |= alternate(calls, args.repeats, args.warmup)
        kilobytes = float(np.mean([Path(path).stat().st_size for path in paths])) / 1e3
    rows = []
    for name, spent in medians(seconds).items():
        images = len(repeated if name in loaders else paths)
        row = dict(candidate=name, images_per_second=images / spent)
        baseline = 'plain, 1 worker' if name in loaders else 'plain'
        row['times_plain'] = ratio(seconds, name, baseline)
        one = 'ours, 1 worker'
        ours_by_workers = name in loaders and name != baseline and one in loaders
        row['times_1_worker'] = ratio(seconds, name, one) if ours_by_workers else None
        rows.append(row)
    return dict(
        rows=rows,
        images=len(paths),
        mean_kilobytes=kilobytes,
        reducing_gap=args.reducing_gap,
        setting=f'{len(paths)} images of {kilobytes:.1f} kB, 4 crops of {args.crop} px',
    )
