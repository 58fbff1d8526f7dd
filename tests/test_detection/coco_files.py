"""Images and files of COCO's form that several tests use."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

NAMES = ['wreath', 'tee', 'stairs']
SIZE = (60, 80)  # height, width


def rectangle(x, y, width, height):
    """A polygon of four points."""
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]


def content(images=4, ids=(1, 2, 3), names=NAMES, **changes) -> dict:
    """Each image has one object of each class, the n-th at x = 20 n and n pixels wider and higher.

    Args:
        images: How many.
        ids: The category of each name; the file lists them in this order.
        names: Of the categories.
        **changes: Of each annotation; None leaves a field out.
    """
    annotations = []
    for image in range(images):
        for number, (id, name) in enumerate(zip(ids, names, strict=True)):
            label = NAMES.index(name) if name in NAMES else number
            box = [20 * label + 2, 5 + image, 12 + label, 20 + label]
            annotation = dict(
                id=len(annotations) + 1,
                image_id=image + 1,
                category_id=id,
                bbox=box,
                area=box[2] * box[3],
                iscrowd=0,
                segmentation=rectangle(*box),
                **changes,
            )
            annotations.append({k: v for k, v in annotation.items() if v is not None})
    return dict(
        images=[
            dict(id=n + 1, file_name=f'{n}.png', height=SIZE[0], width=SIZE[1])
            for n in range(images)
        ],
        annotations=annotations,
        categories=[dict(id=id, name=name) for id, name in zip(ids, names, strict=True)],
    )


def write(folder: Path, data, name='objects.json') -> str:
    """Write the file, and the images if they are not there."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    for number in range(4):
        image = folder / f'{number}.png'
        if not image.exists():
            pixels = np.random.default_rng(number).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(image)
    return str(path)
