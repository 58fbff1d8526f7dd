"""COCO's json as people's tools write it, made what pycocotools and mmdet take for granted."""

import json
import math
from collections import Counter
from collections.abc import Callable
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from adpe_mm.errors import MissingFile, UserError

from .coco_json import CocoJson, listed

PARTS = 'images', 'annotations', 'categories'


def read_coco(path: str) -> CocoJson:
    """Read a file, and make right what is unambiguous.

    Raises:
        MissingFile: If it is not there.
        UserError: If it is no json, or not of COCO's form.
    """
    path = str(path)
    try:
        content = json.loads(Path(path).read_bytes())
    except FileNotFoundError as error:
        raise MissingFile(
            f'there is no annotation file {path}: check data_root and ann_file of the data set, '
            'and ann_file of the evaluator'
        ) from error
    except IsADirectoryError as error:
        raise UserError(f'{path} is a folder: ann_file names a json file') from error
    except ValueError as error:
        raise UserError(f'{path} is no json ({error}): give a json in the form of COCO') from error
    kind = 'a list, as files of results are' if isinstance(content, list) else 'no object'
    if isinstance(content, dict):
        lacking = [part for part in PARTS if not isinstance(content.get(part), list)]
        # The images of a test, whose objects are not published, have none.
        kind = f'without {listed(lacking)}' if set(lacking) - {'annotations'} else None
    if kind:
        raise UserError(
            f'{path} is {kind}: a json in the form of COCO has "images", "annotations" and '
            '"categories"'
        )
    return _Reader(path).read(*(content.get(part) or [] for part in PARTS))


def usable_mask(segmentation: Any) -> list[list[float]] | dict | None:
    """Polygons of three points or more, or a run-length encoding; None where there is neither.

    Args:
        segmentation: What an annotation has, or None. A single polygon need not be in a list, and
            its points may be pairs.
    """
    if isinstance(segmentation, dict):
        counts, size = segmentation.get('counts'), segmentation.get('size')
        usable = counts and isinstance(counts, list | str | bytes) and size and len(size) == 2
        return segmentation if usable else None
    if not isinstance(segmentation, list):
        return None
    if segmentation and (isinstance(segmentation[0], Real) or all(map(_is_point, segmentation))):
        segmentation = [segmentation]
    polygons = []
    for polygon in segmentation:
        if isinstance(polygon, list) and polygon and isinstance(polygon[0], list):
            polygon = [value for point in polygon for value in point]
        if isinstance(polygon, list) and len(polygon) >= 6 and len(polygon) % 2 == 0:
            polygons.append(polygon)
    return polygons or None


class _Reader:
    """Collects, while it makes a file right, what it has to say about it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.notes: list[str] = []
        self.problems: list[str] = []
        self.counts: Counter = Counter()  # of what is noted
        self.wrong: dict[str, list] = {}  # examples of problems

    def read(self, *parts: list) -> CocoJson:
        for name, part in zip(PARTS, parts, strict=True):
            odd = next((n for n, entry in enumerate(part) if not isinstance(entry, dict)), None)
            if odd is not None:
                raise UserError(
                    f'{self.path} has {part[odd]!r} as {name}[{odd}]: each of "{name}" is an '
                    'object with fields, as in COCO'
                )
        images, annotations, categories = parts
        categories = self._unique(self._categories(categories), 'category', 'name')
        images = self._unique(self._images(images), 'image', 'file_name')
        objects = self._annotations(annotations, images, categories)
        return CocoJson(self.path, images, objects, categories, self.notes, self.problems)

    def _categories(self, categories: list[dict]) -> list[dict]:
        if any('id' not in c or 'name' not in c for c in categories):
            self._problem('has categories without "id" or "name": write both')
        categories = [
            dict(c, id=_as_id(c['id']), name=str(c['name']))
            for c in categories
            if 'id' in c and 'name' in c
        ]
        names = Counter({(c['name'], c['id']): 1 for c in categories})
        twice = [n for n, count in Counter(name for name, _ in names).items() if count > 1]
        if twice:
            self._problem(
                f'has several categories of the name {listed(twice)}: make one of them, or give '
                'each a name of its own'
            )
        return categories

    def _images(self, images: list[dict]) -> list[dict]:
        for field in ('id', 'file_name', 'width', 'height'):
            is_length = field in ('width', 'height')
            lacking = {
                n
                for n, image in enumerate(images)
                if image.get(field) in (None, '') or is_length and not _as_length(image[field])
            }
            if lacking:
                self._problem(
                    f'has {len(lacking)} images without a proper "{field}", the first is '
                    f'images[{min(lacking)}]: write it'
                )
                images = [image for n, image in enumerate(images) if n not in lacking]
        images = [
            dict(
                image,
                id=_as_id(image['id']),
                file_name=str(image['file_name']).replace('\\', '/'),
                width=_as_length(image['width']),
                height=_as_length(image['height']),
            )
            for image in images
        ]
        if len({type(image['id']) for image in images}) > 1:
            odd = next(image['id'] for image in images if isinstance(image['id'], str))
            self._problem(
                f"has ids of images that are numbers and others that are not, as '{odd}': number "
                'all images'
            )
        return images

    def _unique(self, entries: list[dict], kind: str, field: str) -> list[dict]:
        """The entries without repeated ones; those of one id have to be the same."""
        found: dict[Any, dict] = {}
        clashes = []
        for entry in entries:
            first = found.setdefault(entry['id'], entry)[field]
            if first != entry[field]:
                clashes.append((entry['id'], first, entry[field]))
        if clashes:
            id, first, other = clashes[0]
            self._problem(
                f'gives the id of one {kind} to another {len(clashes)} times, as {id!r} to '
                f"'{first}' and '{other}': give each an id of its own, which its annotations name"
            )
        elif len(found) < len(entries):
            plural = dict(image='images', category='categories')[kind]
            self._note(f'lists {len(entries) - len(found)} {plural} twice, which count once')
        return list(found.values())

    def _annotations(
        self, annotations: list[dict], images: list[dict], categories: list[dict]
    ) -> list[dict]:
        sizes = {image['id']: (image['height'], image['width']) for image in images}
        known = {category['id'] for category in categories}
        found = []
        for index, annotation in enumerate(annotations):
            image, category = (_as_id(annotation.get(k)) for k in ('image_id', 'category_id'))
            if image not in sizes:
                self._wrong('image', image)
            elif category not in known:
                self._wrong('category', category)
            else:
                annotation = dict(annotation, image_id=image, category_id=category)
                if self._complete(annotation, sizes[image], index):
                    found.append(annotation)
        self._say_unknown(len(annotations), annotations)
        ids = [_as_id(a.get('id')) for a in found]
        if not all(type(i) is int and i > 0 for i in ids) or len(set(ids)) < len(ids):
            # Of an object of id 0 pycocotools takes it that it is not found.
            reason = (
                'no ids' if all(i is None for i in ids) else 'not each an id of its own from 1 on'
            )
            self._note(f'has annotations with {reason}: they are numbered anew')
            ids = range(1, len(found) + 1)
        for i, annotation in zip(ids, found, strict=True):
            annotation['id'] = i
        return found

    def _complete(self, annotation: dict, size: tuple[int, int], index: int) -> bool:
        """Fill in what an annotation lacks; False if it has no box."""
        given = annotation.pop('segmentation', None)
        mask = usable_mask(given)
        if mask is not None:
            annotation['segmentation'] = mask
        elif given:
            self.counts['segmentation'] += 1
        if isinstance(mask, dict) and tuple(mask['size']) != size:
            self._wrong('size', (mask['size'], list(size)))
            return False
        annotation['iscrowd'] = int(annotation.get('iscrowd') or 0)
        box = annotation.get('bbox')
        if not box and mask is not None:
            self.counts['bbox'] += 1
            box = _of_mask(mask, size, 'toBbox').tolist()
        try:
            box = [float(value) for value in box]
            if len(box) != 4 or not all(map(math.isfinite, box)):
                raise ValueError
        except (TypeError, ValueError):
            self._wrong('box', index)
            return False
        annotation['bbox'] = box
        area = annotation.get('area')
        if not isinstance(area, Real) or not area > 0:
            self.counts['area'] += 1
            annotation['area'] = box[2] * box[3]
            if mask is not None:
                annotation['area'] = float(_of_mask(mask, size, 'area'))
        return True

    def _say_unknown(self, total: int, annotations: list[dict]) -> None:
        """The sentences on what the annotations lack."""
        unknown = self.wrong.get('image', [])
        if unknown and len(unknown) == total:
            self._problem(
                f'has {total} annotations and none is of its images: "image_id" of the first is '
                f'{unknown[0]!r}, which is no "id" of an image'
            )
        elif unknown:
            self._note(
                f'has {len(unknown)} of {total} annotations of images that it does not list, as '
                f'{unknown[0]!r}: they are left out'
            )
        unknown = self.wrong.get('category', [])
        if unknown:
            ids = listed(sorted(set(map(repr, unknown))), quote=False)
            self._problem(
                f'has {len(unknown)} of {total} annotations of a category_id that no category has '
                f'({ids}): add the category, or correct the ids'
            )
        broken = self.wrong.get('box', [])
        if broken:
            box = annotations[broken[0]].get('bbox')
            self._problem(
                f'has {len(broken)} annotations without a "bbox" of four numbers and without a '
                f'mask, the first is annotations[{broken[0]}] with {box!r}: write '
                '[x, y, width, height] in pixels'
            )
        if self.counts['segmentation']:
            self._note(
                f'has {self.counts["segmentation"]} annotations whose "segmentation" is neither a '
                'polygon of three points or more nor a run-length encoding: they count as without '
                'a mask'
            )
        sizes = self.wrong.get('size', [])
        if sizes:
            self._problem(
                f'has {len(sizes)} masks in run-length encoding of another size than their image, '
                f'as {sizes[0][0]} in an image of {sizes[0][1]} (height, width): correct the size '
                'of the images or of the masks'
            )
        for field, source in (('bbox', 'masks'), ('area', 'masks or boxes')):
            if self.counts[field]:
                self._note(
                    f'has {self.counts[field]} annotations without a proper "{field}", which is '
                    f'taken from their {source}'
                )

    def _wrong(self, kind: str, example: Any) -> None:
        self.wrong.setdefault(kind, []).append(example)

    def _note(self, text: str) -> None:
        self.notes.append(f'{self.path} {text}')

    def _problem(self, text: str) -> None:
        self.problems.append(f'{self.path} {text}')


def _is_point(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], Real)


def _as_id(value: Any) -> Any:
    """An id as an integer where it is one that was written as a text or a float."""
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _as_length(value: Any) -> int:
    """A number of pixels; 0 for what is none."""
    try:
        return max(int(float(value)), 0)
    except (TypeError, ValueError, OverflowError):
        return 0


def _of_mask(mask: list | dict, size: tuple[int, int], what: str) -> np.ndarray:
    """``'area'`` or ``'toBbox'`` of a mask, as pycocotools computes it."""
    from pycocotools import mask as masks  # which comes with mmdet

    if isinstance(mask, list):
        encoded = masks.merge(masks.frPyObjects(mask, *size))
    else:
        encoded = masks.frPyObjects(mask, *size) if isinstance(mask['counts'], list) else mask
    function: Callable = getattr(masks, what)
    return function(encoded)
