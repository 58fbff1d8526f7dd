"""One scene: what decides about it, and its drawing."""

import dataclasses
from pathlib import Path

import numpy as np

from adpe_mm.errors import UserError

from ..three_tasks import SPLITS, find_photos, write_data_set
from ..three_tasks.photographs import digest
from .appearance import paint
from .geometry import MOST_CLASSES, class_names, compose, stack


@dataclasses.dataclass(frozen=True)
class Options:
    """What decides about the images.

    Attributes:
        train: Number of labelled images to train on.
        val: Number of labelled images to test on.
        unlabelled: Number of further images without labels.
        size: Longer side, in pixels; the other is 3/4 of it or the same.
        classes: Number of classes, K.
        others: Smaller objects beside the main one, at the most; at least one, unless it is 0.
        variation: How much the pose, place and size of main objects vary, in percent: at 0 only
            what they are made of, what their parts are, and which way they face.
        seed: Seed of everything.
        quality: JPEG quality.
        photos: Folder with photographs, from which every second background is cut.
    """

    train: int = 2000
    val: int = 400
    unlabelled: int = 0
    size: int = 160
    classes: int = 8
    others: int = 3
    variation: int = 100
    seed: int = 0
    quality: int = 92
    photos: str | None = None

    def __post_init__(self):
        if not 8 <= self.classes <= MOST_CLASSES:
            raise UserError(f'--classes must lie in 8..{MOST_CLASSES}, got {self.classes}')
        for name in ('train', 'val'):
            if getattr(self, name) < self.classes:
                raise UserError(
                    f'--{name} must be at least the number of classes, {self.classes}, for one '
                    f'image of each, got {getattr(self, name)}'
                )
        if self.unlabelled < 0:
            raise UserError(f'--unlabelled must not be negative, got {self.unlabelled}')
        if self.others < 0:
            raise UserError(f'--others must not be negative, got {self.others}')
        if not 0 <= self.variation <= 100:
            raise UserError(f'--variation must lie in 0..100 (percent), got {self.variation}')
        if self.size < 64:
            raise UserError(f'--size must be at least 64 (pixels), got {self.size}')
        if self.seed < 0:
            raise UserError(f'--seed must not be negative, got {self.seed}')
        if not 1 <= self.quality <= 100:
            raise UserError(f'--quality must lie in 1..100, got {self.quality}')


def draw(
    options: Options, split: str, index: int, photos: list[str]
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Draw one image.

    Args:
        options: Of the data set.
        split: 'train', 'val' or 'unlabelled'.
        index: Of the image in the split.
        photos: Paths of photographs for backgrounds, or none.

    Returns:
        The image, uint8 RGB (height, width, 3); which object is seen where, uint8
        (height, width), 0 for the background and i + 1 for object i; and the objects' classes,
        the main one's being ``index % options.classes``.
    """
    rng = np.random.default_rng([options.seed, SPLITS.index(split), index])
    short = round(options.size * rng.choice([0.75, 1]))
    shape = (short, options.size) if rng.random() < 0.5 else (options.size, short)
    names = class_names(options.classes)
    variation = options.variation / 100
    objects = compose(rng, index % options.classes, names, shape, options.others, variation)
    return paint(rng, objects, shape, photos), stack(objects, shape), [o.label for o in objects]


@dataclasses.dataclass
class MiniScenes:
    """A data set of them: see `Scenes`.

    Args:
        settings: What to draw.

    Raises:
        FileNotFoundError: If the folder of photographs has none.
    """

    settings: Options
    title = 'mini scenes'
    tool = 'make_mini'
    version = 1

    def __post_init__(self):
        settings = self.settings
        self.names = class_names(settings.classes)
        self.counts = {split: getattr(settings, split) for split in SPLITS}
        self.quality = settings.quality
        self.photos = find_photos(settings.photos) if settings.photos else []

    def draw(self, split: str, index: int) -> tuple[np.ndarray, np.ndarray, list[int]]:
        return draw(self.settings, split, index, self.photos)

    def options(self) -> dict:
        """The options, with the photographs for the path to them."""
        facts = dataclasses.asdict(self.settings)
        if self.photos:
            facts['photos'] = digest(self.photos, self.settings.photos)
        return facts


def make_mini(
    out: str | Path, options: Options, workers: int | None = None, overwrite: bool = False
) -> dict:
    """Draw mini scenes, unless they are there already: see `write_data_set`."""
    return write_data_set(out, MiniScenes(options), workers, overwrite)
