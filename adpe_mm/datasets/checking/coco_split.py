"""A data set of COCO's form as a config names it."""

import os
from collections import Counter
from dataclasses import dataclass, field

from mmengine.config import ConfigDict

from ..coco_json import CocoJson
from .sources import Source


@dataclass
class Split:
    """What a data set has.

    Args:
        loader: That of the data set.
        source: Where the config names it.
        json: Content of its file.
        classes: Of the config.
        paths: Of the images that were looked for and found.
    """

    loader: str
    source: Source
    json: CocoJson
    classes: tuple[str, ...]
    paths: list[str] = field(default_factory=list)

    @property
    def training(self) -> bool:
        return self.loader == 'train_dataloader'

    @property
    def objects(self) -> Counter:
        """How many of each category, by its name, without crowds."""
        names = {category['id']: category['name'] for category in self.json.categories}
        return Counter(names[a['category_id']] for a in self.json.annotations if not a['iscrowd'])


def place(dataset: ConfigDict, path: str) -> str:
    """The path that ``data_root`` and a path below it make."""
    return os.path.join(dataset.get('data_root') or '', path or '')


def ours(config: ConfigDict) -> bool:
    """Whether it builds a class of this package."""
    kind = config.get('type', '')
    return (kind if isinstance(kind, str) else kind.__module__).startswith('adpe_mm.')
