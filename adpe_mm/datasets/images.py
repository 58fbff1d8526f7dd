"""Images from a folder or a list, without labels."""

import gc
import os
from collections.abc import Sequence
from pathlib import Path
from random import Random

import cv2
import numpy as np
import torch
from mmengine.dataset import BaseDataset
from torch import Tensor
from torch.utils.data import default_collate

from adpe_mm.errors import MissingFile, UserError
from adpe_mm.registry import DATASETS
from adpe_mm.stopping import outlive_signals

from .finding import ARRAY, EXTENSIONS, Finder, extensions
from .reading import UnreadableImage
from .samplers import SampleKey

TRIES = 100  # images in place of an unreadable one, before giving up


@DATASETS.register_module()
class Images(BaseDataset):
    """All images below one folder or several, or those of a list.

    Classes of ImageNet's folders, a flat folder and nested ones are alike: labels are not used.
    What of a folder is not used is said in one line, see `Finder`. Paths are kept in one buffer of
    bytes (by mmengine's `BaseDataset`), which worker processes share, so that their memory does not
    grow with the number of images.

    Args:
        data_root: The folder, or a list of folders, whose images follow one another.
        ann_file: Text file with a path per line, relative to `data_root` (with `data_prefix`), one
            in each folder of a list; anything after a tab, or a label after the last space, is
            ignored. Empty takes all images below the folder, in the order of their names.
        data_prefix: ``dict(img_path=...)``, a part of the folder such as 'train'.
        pipeline: Transforms, the first of which opens the image. If it states `channels`, arrays
            (.npy) are images too.
        **kwargs: See mmengine's `BaseDataset`.

    Raises:
        FileNotFoundError: If there is no such folder or list, or no image in it.
        ValueError: If a folder is named twice.
    """

    METAINFO = dict()

    def __init__(
        self,
        data_root: str | Sequence[str] = '',
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

    def _join_prefix(self) -> None:
        if isinstance(self.data_root, str):
            super()._join_prefix()

    def _places(self) -> list[tuple[str, str]]:
        """Each folder and its list, which is '' where there is none."""
        prefix = self.data_prefix['img_path']
        if isinstance(self.data_root, str):  # they are joined already
            return [(str(Path(prefix)), self.ann_file)]
        return [
            (str(Path(root, prefix)), self.ann_file and os.path.join(root, self.ann_file))
            for root in self.data_root
        ]

    def load_data_list(self) -> list[dict]:
        """Find the images; BaseDataset calls it."""
        steps = self.pipeline.transforms
        endings = extensions(next((s.channels for s in steps if hasattr(s, 'channels')), None))
        finder, places, paths = Finder(endings), self._places(), []
        for folder, list_ in places:
            if not Path(folder).is_dir():
                raise MissingFile(
                    f"there is no folder '{folder}': set train_dataloader.dataset.data_root "
                    '(and data_prefix.img_path) to your images'
                )
            found = self._listed(folder, list_) if list_ else finder.images(folder)
            if not found:
                raise MissingFile(
                    f"there is no image ({', '.join(endings)}) in '{list_ or folder}'"
                    + (f' ({finder})' if str(finder) else '')
                    + ': set train_dataloader.dataset.data_root to a folder with images'
                )
            paths += found
        finder.report(len(paths), ', '.join(f"'{folder}'" for folder, _ in places))
        return [dict(img_path=path) for path in paths]

    @staticmethod
    def _listed(folder: str, list_: str) -> list[str]:
        if not Path(list_).is_file():
            raise MissingFile(f"there is no list '{list_}': set train_dataloader.dataset.ann_file")
        paths = []
        for line in Path(list_).read_text(encoding='utf-8').splitlines():
            path = line.split('\t')[0].strip()
            # 'n01440764/x.JPEG 0' has a label; 'my image.jpg' has a space in its name.
            if ' ' in path and not path.lower().endswith((*EXTENSIONS, ARRAY)):
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
            index, rng = int(key), key.rng()
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
        samples: Of `PackCrops`: ``inputs`` (C, bands, h, w) uint8, ``mirrored``, C bools, and
            ``unreadable``.

    Returns:
        ``inputs`` (B, C, bands, h, w) uint8, which lie in memory pixel by pixel as the crops do,
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
