"""Photographic objects, cut out with an alpha channel, pasted on photographs.

No object and no photograph of the training images is seen in those to test on: what is measured is
whether a network knows other objects of the same category, at other places.
"""

import dataclasses
import functools
import math
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from adpe_mm.errors import MissingFile, UserError

from .three_tasks import SPLITS, find_photos, random_crop, write_data_set
from .three_tasks.photographs import digest

LARGEST = 256  # pixels of a side that a cut-out is kept with
LEAST_VISIBLE = 0.4  # of an object, that it counts as shown


@dataclasses.dataclass(frozen=True)
class Options:
    """What decides about the images.

    Attributes:
        train: Number of labelled images to train on.
        val: Number of labelled images to test on.
        unlabelled: Number of further images without labels, of the objects of `train`.
        size: Side of an image, in pixels.
        others: Smaller objects behind the main one, at the most.
        held_out: Percentage of objects, of each category, and of photographs that only `val` shows.
        seed: Seed of everything.
        quality: JPEG quality.
    """

    train: int = 800
    val: int = 400
    unlabelled: int = 8000
    size: int = 64
    others: int = 2
    held_out: int = 35
    seed: int = 0
    quality: int = 92

    def __post_init__(self):
        for name, least, most in (
            ('train', 1, math.inf),
            ('val', 1, math.inf),
            ('unlabelled', 0, math.inf),
            ('size', 32, math.inf),
            ('others', 0, 8),
            ('held_out', 1, 99),
            ('seed', 0, math.inf),
            ('quality', 1, 100),
        ):
            value = getattr(self, name)
            if not least <= value <= most:
                bounds = f'at least {least}' if most == math.inf else f'in {least}..{most}'
                raise UserError(f'--{name.replace("_", "-")} must be {bounds}, got {value}')


def find_cutouts(folders: list[str], without: list[str]) -> list[str]:
    """Paths of the images below some folders that have transparent parts, sorted.

    Args:
        folders: Of one category.
        without: Parts of paths, below the folder, that leave a file out.

    Raises:
        FileNotFoundError: If there are fewer than two, one to train on and one to test on.
    """
    found = []
    for folder in folders:
        for path in sorted(Path(folder).rglob('*.png')):
            if any(part in str(path.relative_to(folder)) for part in without):
                continue
            if load_cutout(str(path)) is not None:
                found.append(str(path))
    if len(found) < 2:
        raise MissingFile(
            f'there are {len(found)} cut-outs (.png with a transparent part) in '
            f'{", ".join(folders)}: a category needs two, of which one is tested on'
        )
    return found


@functools.lru_cache(maxsize=1024)
def load_cutout(path: str) -> np.ndarray | None:
    """A cut-out as uint8 RGBA without its transparent border, of at most 256 px; None if there is
    nothing in it, or nothing around it.

    Raises:
        ValueError: If it is broken.
    """
    try:
        with Image.open(path) as image:
            image = image.convert('RGBA')
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"remove the broken cut-out '{path}': {error}") from error
    solid = image.getchannel('A').point(lambda alpha: 255 * (alpha > 127))
    box = solid.getbbox()
    if box is None:
        return None
    image = image.crop(box)
    if np.mean(np.asarray(solid.crop(box)) > 0) > 0.98:  # a rectangle
        return None
    image.thumbnail((LARGEST, LARGEST))
    return np.asarray(image)


def hold_out(paths: list[str], percent: int, seed: int) -> dict[str, list[str]]:
    """Split files into those of 'train' and those of 'val', at least one each, by their names."""

    def place(path: str) -> str:
        return sha256(f'{seed} {Path(path).name}'.encode()).hexdigest()

    order = sorted(paths, key=place)
    number = min(max(round(len(order) * percent / 100), 1), len(order) - 1)
    return dict(train=sorted(order[number:]), val=sorted(order[:number]))


def paste(
    rng: np.random.Generator, image: np.ndarray, cutout: np.ndarray, share: float
) -> np.ndarray:
    """Paste a cut-out at a random place: turned by up to 20 degrees, mirrored, lit differently.

    Args:
        rng: Source of randomness.
        image: float32 RGB (h, w, 3), which is changed.
        cutout: uint8 RGBA.
        share: Of the image's side that its longer side has.

    Returns:
        bool (h, w), where it is.
    """
    height, width = image.shape[:2]
    if rng.random() < 0.5:
        cutout = cutout[:, ::-1]
    # Colours of transparent pixels say nothing: they must not be mixed in.
    alpha = cutout[..., 3:].astype(np.float32) / 255
    layer = np.concatenate((cutout[..., :3] / np.float32(255) * alpha, alpha), axis=-1)
    rows, columns = layer.shape[:2]
    factor = share * min(height, width) / max(rows, columns)
    if factor < 0.5:  # to twice the size by averaging, as interpolation would skip pixels
        smaller = max(round(2 * factor * columns), 2), max(round(2 * factor * rows), 2)
        layer = cv2.resize(layer, smaller, interpolation=cv2.INTER_AREA)
        rows, columns = layer.shape[:2]
        factor = share * min(height, width) / max(rows, columns)
    turn = cv2.getRotationMatrix2D((columns / 2, rows / 2), rng.uniform(-20, 20), factor)
    reach = share * min(height, width) / 2
    centre = [rng.uniform(min(reach, n / 2), max(n - reach, n / 2)) for n in (width, height)]
    turn[:, 2] += np.array(centre) - (columns / 2, rows / 2)
    layer = cv2.warpAffine(layer, turn, (width, height), flags=cv2.INTER_LINEAR)
    light = rng.uniform(0.75, 1.2) * rng.uniform(0.93, 1.07, 3).astype(np.float32)
    image *= 1 - layer[..., 3:]
    image += layer[..., :3] * light
    return layer[..., 3] > 0.5


@dataclasses.dataclass
class Cutouts:
    """A data set of cut-outs on photographs: see `Scenes`.

    Args:
        settings: What decides about the images.
        categories: Folders of each category.
        photos: Folder of photographs.
        without: Parts of paths that leave a cut-out out, such as 'cartoon'.

    Raises:
        FileNotFoundError: If there are too few cut-outs or photographs.
        ValueError: For fewer than two categories.
    """

    settings: Options
    categories: dict[str, list[str]]
    photos: str
    without: list[str] = dataclasses.field(default_factory=list)
    title = 'cut-outs on photographs'
    tool = 'paste_cutouts'
    version = 1

    def __post_init__(self):
        settings = self.settings
        if len(self.categories) < 2:
            raise UserError(f'--objects must name two categories or more, got {self.categories}')
        self.names = list(self.categories)
        self.counts = {split: getattr(settings, split) for split in SPLITS}
        self.quality = settings.quality
        cutouts = {
            name: find_cutouts(folders, self.without) for name, folders in self.categories.items()
        }
        photographs = find_photos(self.photos)
        if len(photographs) < 2:
            raise MissingFile(
                f"there is one photograph in '{self.photos}': two are needed, of which one is "
                'tested on'
            )
        self.facts = {
            'cutouts': {name: digest(files, self.common(name)) for name, files in cutouts.items()},
            'photos': digest(photographs, self.photos),
        }
        self.objects = [
            hold_out(cutouts[name], settings.held_out, settings.seed) for name in self.names
        ]
        self.backgrounds = hold_out(photographs, settings.held_out, settings.seed)

    def common(self, name: str) -> str:
        """The first folder of a category, which the paths of its files are relative to."""
        return self.categories[name][0]

    def options(self) -> dict:
        return dict(dataclasses.asdict(self.settings), **self.facts)

    def draw(self, split: str, index: int) -> tuple[np.ndarray, np.ndarray, list[int]]:
        """Objects in front of a photograph, from back to front; the main one is the last."""
        settings = self.settings
        seen_in = 'val' if split == 'val' else 'train'
        rng = np.random.default_rng([settings.seed, SPLITS.index(split), index])
        shape = settings.size, settings.size
        photos = self.backgrounds[seen_in]
        image = random_crop(rng, photos[rng.integers(len(photos))], shape).astype(np.float32) / 255
        main = index % len(self.names)
        others = rng.integers(len(self.names), size=rng.integers(settings.others + 1))
        covers = []
        for label in (*others.tolist(), main):
            files = self.objects[label][seen_in]
            cutout = load_cutout(files[rng.integers(len(files))])
            share = rng.uniform(0.55, 0.95) if len(covers) == len(others) else rng.uniform(0.3, 0.5)
            covers.append((label, paste(rng, image, cutout, share)))
        image += rng.normal(0, 0.01, image.shape)
        seen = np.zeros(shape, np.uint8)
        for number, (_, cover) in enumerate(covers, 1):
            seen[cover] = number
        return self.drop_hidden(image, seen, covers)

    @staticmethod
    def drop_hidden(
        image: np.ndarray, seen: np.ndarray, covers: list[tuple[int, np.ndarray]]
    ) -> tuple[np.ndarray, np.ndarray, list[int]]:
        """Number the objects that are shown; of the others what is seen is background."""
        numbers, labels = np.zeros_like(seen), []
        for number, (label, cover) in enumerate(covers, 1):
            visible = seen == number
            if visible.any() and visible.sum() >= LEAST_VISIBLE * cover.sum():
                labels.append(label)
                numbers[visible] = len(labels)
        return (image.clip(0, 1) * 255 + 0.5).astype(np.uint8), numbers, labels


def paste_cutouts(
    out: str | Path,
    options: Options,
    categories: dict[str, list[str]],
    photos: str,
    without: list[str] = (),
    workers: int | None = None,
    overwrite: bool = False,
) -> dict:
    """Make a data set of cut-outs on photographs: see `Cutouts` and `write_data_set`."""
    scenes = Cutouts(options, categories, photos, list(without))
    for name, files in zip(scenes.names, scenes.objects, strict=True):
        print(f'{name}: {len(files["train"])} objects to train on, {len(files["val"])} to test on')
    print(
        f'photographs: {len(scenes.backgrounds["train"])} to train on, '
        f'{len(scenes.backgrounds["val"])} to test on'
    )
    return write_data_set(out, scenes, workers, overwrite)
