"""Images and objects of a file of COCO's form, against each other and the images on the disk."""

import os
from collections import Counter

import numpy as np

from ..coco_json import CocoJson
from .files import image_size, sample, some
from .findings import Findings

MARGIN = 1.5  # pixels by which a box may reach beyond its image, or miss its polygons


def check_boxes(json: CocoJson, findings: Findings) -> None:
    """Find boxes that are no (x, y, width, height) in pixels, and those that are left out."""
    objects = [annotation for annotation in json.annotations if not annotation['iscrowd']]
    if not objects:
        return
    sizes = {image['id']: (image['width'], image['height']) for image in json.images}
    limits = np.array([sizes[a['image_id']] for a in objects], float)  # (N, 2)
    boxes = np.array([a['bbox'] for a in objects])  # (N, 4)
    total = len(boxes)
    if boxes.max() <= 1:
        findings.problems.append(
            f'the boxes of {json.path} are at most 1, as fractions of the image are: write "bbox" '
            'as [x, y, width, height] in pixels'
        )
        return
    if _are_corners(objects, boxes, limits):
        findings.problems.append(
            f'the boxes of {json.path} look like corners [left, top, right, bottom], as '
            f'{_short(boxes[0])} in an image of {_short(limits[0])}: write "bbox" as '
            '[x, y, width, height] in pixels'
        )
        return
    start, end = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    thin = (boxes[:, 2:] < 1).any(axis=1)
    outside = ((start >= limits) | (end <= 0)).any(axis=1) & ~thin
    beyond = ((start < -MARGIN) | (end > limits + MARGIN)).any(axis=1) & ~thin & ~outside
    for which, what, cure in (
        (thin, 'narrower or lower than 1 px', 'they are left out'),
        (outside, 'outside of their image', 'they are left out'),
        (beyond, 'partly outside of their image', 'they are trained on as they are'),
    ):
        if which.any():
            first = int(which.argmax())
            text = (
                f'{which.sum()} of {total} boxes of {json.path} are {what}, as '
                f'{_short(boxes[first])} of annotation {objects[first]["id"]} in an image of '
                f'{_short(limits[first])}'
            )
            if which.sum() > total / 2:
                findings.problems.append(
                    f'{text}: correct the boxes, [x, y, width, height] in pixels, or width and '
                    'height of the images'
                )
            else:
                findings.warnings.append(f'{text}: {cure}')
    same = Counter((a['image_id'], a['category_id'], *a['bbox']) for a in objects)
    repeated = total - len(same)
    if repeated:
        findings.warnings.append(
            f'{repeated} of {total} objects of {json.path} have image, category and box of another '
            'one: is each meant to be there?'
        )


def _are_corners(objects: list[dict], boxes: np.ndarray, limits: np.ndarray) -> bool:
    """Whether the third and fourth number are rather the right and lower edge."""
    right = boxes[:, :2] + boxes[:, 2:]
    fits = (right <= limits + MARGIN).all(axis=1)
    may_be = ((boxes[:, 2:] > boxes[:, :2]) & (boxes[:, 2:] <= limits + MARGIN)).all(axis=1)
    if may_be.mean() < 0.99:
        return False
    edges, where = [], []
    for n, annotation in enumerate(objects[:1000]):
        polygons = annotation.get('segmentation')
        if isinstance(polygons, list):
            points = np.concatenate([np.reshape(polygon, (-1, 2)) for polygon in polygons])
            edges.append(points.max(axis=0))
            where.append(n)
    if edges:  # the outlines say where an object ends
        edges = np.array(edges)
        as_corners = (np.abs(boxes[where, 2:] - edges) <= MARGIN).all(axis=1)
        as_sizes = (np.abs(right[where] - edges) <= MARGIN).all(axis=1)
        return as_corners.mean() > 0.9 and as_sizes.mean() < 0.5
    return fits.mean() < 0.9


def check_files(json: CocoJson, folder: str, setting: str, every: bool, findings: Findings) -> list:
    """Look for the images, and compare their sizes with those in the file.

    Args:
        json: Content of the file.
        folder: Of the images.
        setting: Of the config: the data set.
        every: Look for all of them.
        findings: Gets what is wrong.

    Returns:
        Paths of the images that were found.
    """
    chosen = sample(json.images, every)
    paths = [os.path.join(folder, image['file_name']) for image in chosen]
    there = [os.path.isfile(path) for path in paths]
    if not all(there):
        first = there.index(False)
        findings.problems.append(
            f'{there.count(False)} of the {len(there)} images of {json.path} that were looked for '
            f"are missing, the first is '{paths[first]}': "
            + _where(chosen[first]['file_name'], folder, setting)
        )
    wrong, turned = [], []
    for image, path, found in zip(chosen, paths, there, strict=True):
        size, stated = image_size(path) if found else None, (image['width'], image['height'])
        if size is not None and size != stated:
            (turned if size == stated[::-1] else wrong).append((path, stated, size))
    for cases, reason in ((wrong, ''), (turned, ', as before its EXIF orientation is applied')):
        if cases:
            path, stated, size = cases[0]
            findings.problems.append(
                f'{len(cases)} of {len(chosen)} images have another size than {json.path} says'
                f"{reason}, the first is '{path}', {size[0]} x {size[1]} px and not {stated[0]} x "
                f'{stated[1]}: correct width and height, and the boxes if they are of such an image'
            )
    names = Counter(image['file_name'] for image in json.images)
    repeated = [name for name, count in names.items() if count > 1]
    if repeated:
        findings.warnings.append(
            f'{json.path} lists {len(repeated)} files under several ids, as {some(repeated, 1)}: '
            'the objects of one entry are background in the other'
        )
    return [path for path, found in zip(paths, there, strict=True) if found]


def _where(name: str, folder: str, setting: str) -> str:
    """What to change for a missing image, by where it can be found."""
    if os.path.isabs(name) or name[1:3] == ':/':
        if os.path.isfile(os.path.join(folder, os.path.basename(name))):
            return f"write file_name as '{os.path.basename(name)}', as the images are in '{folder}'"
        return 'file_name has a folder of another machine: write it relative to data_prefix.img'
    above = folder.rstrip('/')
    while os.path.dirname(above) != above:
        above = os.path.dirname(above)
        if os.path.isfile(os.path.join(above, name)):
            return (
                f"file_name is relative to '{above or '.'}' already: set {setting}.data_prefix.img "
                'to lead there and no further'
            )
    if not os.path.isdir(folder):
        return f"there is no folder '{folder}': set {setting}.data_root or data_prefix.img"
    return f'set {setting}.data_prefix.img to their folder, or correct file_name'


def _short(values: np.ndarray) -> str:
    return '[' + ', '.join(f'{value:g}' for value in values) + ']'
