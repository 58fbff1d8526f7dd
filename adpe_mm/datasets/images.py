"""Images from a folder or a list, without labels."""

import gc
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random

import cv2
import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from torch import Tensor
from torch.utils.data import default_collate

from adpe_mm.errors import MissingFile, UserError
from adpe_mm.registry import DATASETS
from adpe_mm.stopping import outlive_signals

from .reading import UnreadableImage
from .samplers import SampleKey

EXTENSIONS = ('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.tif', '.tiff')
TRIES = 100  # images in place of an unreadable one, before giving up


@DATASETS.register_module()
class Images(BaseDataset):
    """All images below a folder, or those of a list.

    Classes of ImageNet's folders, a flat folder and nested ones are alike: labels are not used.
    Links are followed; hidden files and folders (a name that begins with a dot) are left out.
    Paths are kept in one buffer of bytes (by mmengine's `BaseDataset`), which worker processes
    share, so that their memory does not grow with the number of images.

    Args:
        data_root: The folder.
        ann_file: Text file with a path per line, relative to `data_root` (with `data_prefix`);
            anything after a tab, or a label after the last space, is ignored. Empty takes all
            images below the folder, in the order of their names.
        data_prefix: ``dict(img_path=...)``, a part of the folder such as 'train'.
        pipeline: Transforms, the first of which opens the image.
        **kwargs: See mmengine's `BaseDataset`.

    Raises:
        FileNotFoundError: If there is no such folder or list, or no image in it.
    """

    METAINFO = dict()

    def __init__(
        self,
        data_root: str = '',
        ann_file: str = '',
        data_prefix: dict | None = None,
        pipeline: list | None = None,
        **kwargs,
    ) -> None:
        super().__init__(
            data_root=data_root,
            ann_file=ann_file or '',
            data_prefix=data_prefix or dict(img_path=''),
            pipeline=pipeline or [],
            **kwargs,
        )

    def load_data_list(self) -> list[dict]:
        """Find the images; BaseDataset calls it."""
        folder = Path(self.data_prefix['img_path'] or '.')
        if not folder.is_dir():
            raise MissingFile(
                f"there is no folder '{folder}': set "
                'train_dataloader.dataset.data_root (and data_prefix.img_path) to your images'
            )
        paths = self._listed(folder) if self.ann_file else sorted(_walk(folder))
        if not paths:
            raise MissingFile(
                f'there is no image ({", ".join(EXTENSIONS)}) in '
                f"'{self.ann_file or folder}': set train_dataloader.dataset.data_root to a folder "
                'with images'
            )
        return [dict(img_path=path) for path in paths]

    def _listed(self, folder: Path) -> list[str]:
        if not Path(self.ann_file).is_file():
            raise MissingFile(
                f"there is no list '{self.ann_file}': set train_dataloader.dataset.ann_file"
            )
        paths = []
        for line in Path(self.ann_file).read_text(encoding='utf-8').splitlines():
            path = line.split('\t')[0].strip()
            # 'n01440764/x.JPEG 0' has a label; 'my image.jpg' has a space in its name.
            if ' ' in path and not path.lower().endswith(EXTENSIONS):
                path = path.rpartition(' ')[0].strip()
            if path:
                paths.append(os.path.join(folder, path))
        return paths

    def __getitem__(self, key: SampleKey | int) -> dict:
        """One sample.

        An image that cannot be read is replaced by another, drawn from the sample's generator.

        Args:
            key: What to load; of a plain index, the randomness comes from torch's generator.

        Returns:
            What the pipeline makes of ``dict(img_path=..., rng=..., unreadable=[...])``.

        Raises:
            ValueError: If a hundred images in a row cannot be read.
        """
        self.full_init()
        if isinstance(key, SampleKey):
            index, rng = key.index, key.rng()
        else:
            index, rng = key, Random(int(torch.randint(2**62, ())))
        unreadable: list[str] = []
        for _ in range(TRIES):
            results = self.get_data_info(index)
            try:
                return self.pipeline(dict(results, rng=rng, unreadable=unreadable))
            except UnreadableImage as error:
                unreadable.append(f'{results["img_path"]} ({error})')
                index = rng.randrange(len(self))
        raise UserError(
            f'{TRIES} images in a row cannot be read, the last being {unreadable[-1]}: check '
            'train_dataloader.dataset.data_root'
        )


def find_images(names: Iterable[str | Path]) -> list[str]:
    """Paths of images, given as files and as folders with all below them.

    Raises:
        FileNotFoundError: If one is missing, or there is no image in a folder.
    """
    paths: list[str] = []
    for name in names:
        found = sorted(_walk(Path(name))) if Path(name).is_dir() else [str(name)]
        if not found or not Path(found[0]).is_file():
            raise MissingFile(
                f"there is no image or folder of images '{name}' ({', '.join(EXTENSIONS)})"
            )
        paths += found
    return paths


def _walk(folder: Path) -> Iterator[str]:
    """Paths of all images below a folder; each real folder once, wherever links lead."""
    seen = set()
    for parent, folders, names in os.walk(folder, onerror=_warn, followlinks=True):
        status = os.stat(parent)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        # In the order of names, or it would be chance by which of two ways a folder is found.
        folders[:] = sorted(name for name in folders if not name.startswith('.'))
        for name in names:
            if name.lower().endswith(EXTENSIONS) and not name.startswith('.'):
                yield os.path.join(parent, name)


def _warn(error: OSError) -> None:
    print_log(f'left out a folder: {error}', logger='current', level=logging.WARNING)


def start_worker(worker_id: int) -> None:
    """Set up a worker process (`worker_init_fn`).

    One thread: there are as many workers as cores for them. No garbage collection of what the main
    process made, which takes time and copies the memory that is shared with it. Signals are left to
    the main process.
    """
    gc.freeze()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    outlive_signals()


def collate_crops(samples: list[dict]) -> dict[str, Tensor | np.ndarray | list[str]]:
    """Stack samples to a batch.

    Args:
        samples: Of `PackCrops`: ``inputs`` (C, 3, h, w) uint8, ``mirrored``, C bools, and
            ``unreadable``.

    Returns:
        ``inputs`` (B, C, 3, h, w) uint8, which lie in memory pixel by pixel as the crops do,
        ``mirrored`` (B, C) bool (numpy), and ``unreadable``, the paths of all samples.
    """
    # In a worker torch's own function stacks into shared memory, which saves a copy.
    inputs = default_collate([sample['inputs'].permute(0, 2, 3, 1) for sample in samples])
    return dict(
        inputs=inputs.permute(0, 1, 4, 2, 3),
        # No tensor: a worker would pass on a second handle of shared memory, at some cost.
        mirrored=np.array([sample['mirrored'] for sample in samples]),
        unreadable=[path for sample in samples for path in sample['unreadable']],
    )
