"""Names the files of a task's data set that cannot be read, and in training skips them."""

import logging

from mmengine.dataset import BaseDataset, Compose
from mmengine.logging import print_log
from torch.utils.data import Dataset

from .images import TRIES, Images
from .reading import UnreadableImage, why_unreadable

FILES = 'img_path', 'seg_map_path'  # of a sample, as OpenMMLab's data sets name them


class GuardedPipeline(Compose):
    """A pipeline that finds the file to blame when a transform fails.

    Whatever loader failed, of this package or of a library, and in whatever way: the image and the
    mask of the sample are read once more. If both can be read, the error is that of another
    transform: it is raised as it is, and the log has the paths.

    Args:
        pipeline: The transforms.
        skips: What cannot be read is no sample (None), upon which mmengine's data sets draw
            another. The next sample has its path and the reason in the meta information
            ``unreadable`` of its ``data_samples``, for `UnreadableImagesHook`.

    Raises:
        UnreadableImage: If a file cannot be read and `skips` is false, or a hundred in a row.
    """

    def __init__(self, pipeline: Compose, skips: bool) -> None:
        super().__init__([])
        self.transforms = pipeline.transforms
        self.skips = skips
        self.in_a_row = 0
        self.unreadable: list[str] = []

    def __call__(self, data: dict) -> dict | None:
        paths = [data[name] for name in FILES if data.get(name)]
        try:
            sample = super().__call__(data)
        except Exception as error:
            reasons = [(path, why_unreadable(path)) for path in paths]
            broken = [f'{path} ({reason})' for path, reason in reasons if reason is not None]
            if not broken and isinstance(error, UnreadableImage):  # of other bands than are wanted
                broken = [f'{paths[0]} ({error.__cause__ or error})']
            if not broken:
                print_log(
                    f'a transform failed at {" with ".join(map(str, paths))}',
                    logger='current',
                    level=logging.ERROR,
                )
                raise
        else:
            if sample is not None:
                self.in_a_row = 0
                self._report(sample)
            return sample
        if not self.skips:
            raise UnreadableImage(
                f'cannot read {broken[0]}: repair it, or take it out of the data set'
            )
        self.unreadable += broken
        self.in_a_row += 1
        if self.in_a_row == TRIES:
            raise UnreadableImage(
                f'{TRIES} samples in a row cannot be read, the last being {broken[-1]}: check '
                'train_dataloader.dataset.data_root'
            )
        return None

    def _report(self, sample: dict) -> None:
        """Send what was skipped along with a sample, or log it where a sample has no place."""
        unreadable, self.unreadable = self.unreadable, []
        if not unreadable:
            return
        carrier = sample.get('data_samples') if isinstance(sample, dict) else None
        if hasattr(carrier, 'set_metainfo'):
            carrier.set_metainfo(dict(unreadable=unreadable))
            return
        for path in unreadable:
            print_log(
                f'skipped an image that cannot be read: {path}',
                logger='current',
                level=logging.WARNING,
            )


def guard_files(dataset: Dataset, skips: bool) -> None:
    """Guard the pipelines of a data set and of those that it wraps: see `GuardedPipeline`.

    Those of `Images` are left alone: it replaces images by itself, the same ones in each run.

    Args:
        dataset: Data set.
        skips: Whether broken files are skipped; not where all samples count, as in a test.
    """
    inner = list(getattr(dataset, 'datasets', [])) or [getattr(dataset, 'dataset', None)]
    for part in inner:
        if part is not None:
            guard_files(part, skips)
    if not isinstance(dataset, BaseDataset) or isinstance(dataset, Images):
        return
    if isinstance(dataset.pipeline, Compose):
        dataset.pipeline = GuardedPipeline(dataset.pipeline, skips and not dataset.test_mode)
