"""A scene as files, in the layouts of ImageNet, ADE20K and COCO."""

import colorsys
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

SPLITS = ('train', 'val', 'unlabelled')


class Scenes(Protocol):
    """What the images of a data set show; it is sent to the processes that draw.

    Attributes:
        title: What they are, in a few words.
        tool: The command that draws them.
        version: Of the drawing; raised when the same options no longer give the same images.
        names: Of the K classes.
        counts: Images of each split.
        quality: Of the JPEG files.
    """

    title: str
    tool: str
    version: int
    names: list[str]
    counts: dict[str, int]
    quality: int

    def draw(self, split: str, index: int) -> tuple[np.ndarray, np.ndarray, list[int]]:
        """Draw one image.

        Args:
            split: One of `SPLITS`.
            index: Of the image in the split.

        Returns:
            The image, uint8 RGB (height, width, 3); which object is seen where, uint8
            (height, width), 0 for the background and i + 1 for object i; and the objects'
            classes, the main one's being ``index % K``.
        """

    def options(self) -> dict:
        """What decides about the bytes, as JSON has it."""


def folders(scenes: Scenes) -> list[str]:
    """All folders of a data set, relative to its root."""
    return [
        'ade/images/training',
        'ade/images/validation',
        'ade/annotations/training',
        'ade/annotations/validation',
        'coco/train2017',
        'coco/val2017',
        'coco/annotations',
        *(f'imagenet/{split}/{name}' for split in ('train', 'val') for name in scenes.names),
        *(['unlabelled'] if scenes.counts['unlabelled'] else []),
    ]


def run_lengths(mask: np.ndarray) -> dict:
    """COCO's uncompressed RLE of a mask (h, w): runs down the columns, of 0 and 1 in turn."""
    flat = mask.ravel(order='F').astype(np.int8)
    changes = np.flatnonzero(np.diff(flat, prepend=0))
    counts = np.diff(changes, prepend=0, append=flat.size)
    return dict(size=list(mask.shape), counts=counts.tolist())


def annotation(mask: np.ndarray, label: int) -> dict:
    """COCO's entry for one object, without ids: its visible pixels (h, w), area and box."""
    ys, xs = np.nonzero(mask)
    left, top = int(xs.min()), int(ys.min())
    return dict(
        category_id=label + 1,
        segmentation=run_lengths(mask),
        area=len(xs),
        bbox=[left, top, int(xs.max()) - left + 1, int(ys.max()) - top + 1],
        iscrowd=0,
    )


def palette(count: int) -> list[list[int]]:
    """RGB colours of the classes, bright and evenly spread in hue, and dark grey (background)."""
    bright = [colorsys.hsv_to_rgb(i / count, 0.75, 1 - 0.3 * (i % 2)) for i in range(count)]
    return [[round(255 * value) for value in colour] for colour in bright] + [[60, 60, 60]]


def link(source: Path, target: Path) -> None:
    """Hard link, or a copy where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def write_scene(index: int, split: str, scenes: Scenes, root: Path) -> tuple[dict, list[dict]]:
    """Draw an image and write it in every layout.

    Returns:
        COCO's entry for the image, and those for its objects without ids.
    """
    image, seen, labels = scenes.draw(split, index)
    name = f'{split}_{index + 1:06d}'
    if split == 'unlabelled':
        Image.fromarray(image).save(root / split / f'{name}.jpg', quality=scenes.quality)
        return {}, []
    names = scenes.names
    file = root / 'imagenet' / split / names[index % len(names)] / f'{name}.jpg'
    Image.fromarray(image).save(file, quality=scenes.quality)
    link(file, root / 'coco' / f'{split}2017' / file.name)
    ade = dict(train='training', val='validation')[split]
    link(file, root / 'ade' / 'images' / ade / file.name)
    values = np.array([len(names) + 1, *(label + 1 for label in labels)], np.uint8)
    Image.fromarray(values[seen]).save(root / 'ade' / 'annotations' / ade / f'{name}.png')
    entry = dict(id=index + 1, file_name=file.name, height=image.shape[0], width=image.shape[1])
    return entry, [annotation(seen == i, label) for i, label in enumerate(labels, 1)]


def write_split(
    written: Iterator[tuple[dict, list[dict]]], split: str, scenes: Scenes, root: Path
) -> int:
    """Write the images of a split and its COCO annotations. Returns the number of objects."""
    images, annotations = [], []
    for entry, objects in written:
        images.append(entry)
        for item in objects:
            annotations.append(dict(id=len(annotations) + 1, image_id=entry['id'], **item))
    if split == 'unlabelled':
        return 0
    coco = dict(
        info=dict(description=scenes.title, version=str(scenes.version)),
        licenses=[],
        categories=[
            dict(id=i, name=name, supercategory='object') for i, name in enumerate(scenes.names, 1)
        ],
        images=images,
        annotations=annotations,
    )
    path = root / 'coco' / 'annotations' / f'instances_{split}2017.json'
    path.write_text(json.dumps(coco))
    return len(annotations)
