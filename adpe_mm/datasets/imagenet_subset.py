"""The part of ImageNet that a list names, for training on few labels."""

from collections import Counter
from pathlib import Path

from mmpretrain.datasets import ImageNet

from adpe_mm.errors import MissingFile, UserError
from adpe_mm.registry import DATASETS


@DATASETS.register_module()
class ImageNetSubset(ImageNet):
    """mmpretrain's `ImageNet` with the images of a list alone; labels are those of all ImageNet.

    Args:
        subset: Text file, relative to ``data_root``, with the name of an image per line, such as
            'n01440764_10026.JPEG': SimCLR's `imagenet_subsets/1percent.txt` is one.
        **kwargs: See mmpretrain's `ImageNet`.

    Raises:
        FileNotFoundError: If there is no such list, or an image of it is missing.
        ValueError: If the list is empty or an image is there twice.
    """

    def __init__(self, subset: str, **kwargs) -> None:
        self.subset = subset
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict]:
        """Samples in the order of the whole data set, and not of the list."""
        path = Path(self.data_root, self.subset)
        if not path.is_file():
            raise MissingFile(
                f"there is no list of images '{path}': see configs/cls/README.md for where to get "
                'it, or give another one as train_dataloader.dataset.subset'
            )
        names = Counter(path.read_text(encoding='utf-8').split())
        if not names:
            raise UserError(f"'{path}' names no image")
        twice = [name for name, count in names.items() if count > 1]
        if twice:
            raise UserError(
                f"'{path}' names {len(twice)} images more than once, the first is {twice[0]}: "
                'leave each in it once'
            )
        samples = super().load_data_list()
        found = [sample for sample in samples if Path(sample['img_path']).name in names]
        missing = names.keys() - {Path(sample['img_path']).name for sample in found}
        if missing:
            raise MissingFile(
                f"{len(missing)} of the {len(names)} images of '{path}' are not in "
                f"'{self.img_prefix}', the first is {min(missing)}: complete the images, or give "
                'the list that belongs to them'
            )
        if len(found) > len(names):
            raise UserError(
                f"'{self.img_prefix}' has {len(found)} images with the {len(names)} names of "
                f"'{path}': remove those that lie in two folders"
            )
        return found
