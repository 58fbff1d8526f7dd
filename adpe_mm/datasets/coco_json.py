"""What a file of COCO's form has, and the names of its categories."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from adpe_mm.errors import UserError

SHOWN = 8  # names in a sentence
BOXES_ONLY = 'a config of boxes alone (configs/det/faster-rcnn_*.py, cascade-rcnn_*.py)'


@dataclass
class CocoJson:
    """Images, objects and categories of a file, with ids and fields as they should be.

    Args:
        path: Of the file.
        images: With integers ``id``, ``width``, ``height``, and ``file_name``. Ids may be texts
            instead if they are no numbers.
        annotations: With integers ``id`` from 1 on, ``image_id``, ``category_id`` and ``iscrowd``,
            a ``bbox`` (x, y, width, height), and ``area``. ``segmentation`` is missing in those
            without a mask that can be drawn.
        categories: With an integer ``id`` and ``name``.
        notes: Sentences on what was made right, or left out.
        problems: Sentences on what has to be mended in the file.
    """

    path: str
    images: list[dict]
    annotations: list[dict]
    categories: list[dict]
    notes: list[str]
    problems: list[str]

    @property
    def names(self) -> list[str]:
        """Names of the categories."""
        return [category['name'] for category in self.categories]

    @property
    def without_mask(self) -> int:
        """Number of objects that have no mask, crowds apart."""
        return sum(not a['iscrowd'] and 'segmentation' not in a for a in self.annotations)

    def require(self) -> 'CocoJson':
        """Itself.

        Raises:
            UserError: If something has to be mended in the file.
        """
        if self.problems:
            raise UserError('; '.join(self.problems))
        return self

    def ids_of(self, classes: Sequence[str]) -> list[int | None]:
        """The category of each class, by its name; None for one that the file does not know.

        Raises:
            UserError: If a class is none of the categories, and another name may be meant.
        """
        problem = self.naming_problem(classes)
        if problem:
            raise UserError(problem)
        ids = {category['name']: category['id'] for category in self.categories}
        return [ids.get(name) for name in classes]

    def naming_problem(self, classes: Sequence[str]) -> str | None:
        """What is wrong with the names of the classes.

        A class may have no category, as a validation set may lack one, and a category no class, as
        one may train on some of them. Both at the same time are two names for one thing: if the
        names are alike, the category has objects, or no class is found at all.
        """
        absent = [name for name in classes if name not in self.names]
        if not absent:
            return None
        spare = {c['id']: c['name'] for c in self.categories if c['name'] not in classes}
        with_objects = {a['category_id'] for a in self.annotations}
        unnamed = [name for id, name in spare.items() if id in with_objects]
        lower = {name.lower(): name for name in spare.values()}
        near = {}
        for name in absent:
            for found in get_close_matches(name.lower(), lower, 1):
                near[name] = lower[found]
        if not near and not unnamed and len(absent) < len(classes):
            return None
        if len(absent) == len(classes):
            return (
                f'none of the classes {listed(classes)} is a category of {self.path}: name its '
                f'categories, classes=({", ".join(map(repr, self.names))},), at the top of the '
                'config, or take the file that belongs to the classes'
            )
        shown = [f"'{n}' (nearest: '{near[n]}')" if n in near else f"'{n}'" for n in absent]
        verb = 'is no category' if len(absent) == 1 else 'are no categories'
        others = unnamed or list(near.values())
        return (
            f'{listed(shown, quote=False)} {verb} of {self.path}, which has {listed(others)} '
            'besides: use one name in the classes of the config and in the file'
        )


def class_names(classes: Sequence[str] | str) -> tuple[str, ...]:
    """The classes of a config, each once.

    Args:
        classes: Their names, or the path of a text file with one per line, as OpenMMLab allows.

    Raises:
        UserError: If they are no names, or one is there twice.
    """
    if isinstance(classes, str):
        if not Path(classes).is_file():
            raise UserError(
                f"classes='{classes}' is neither a list of names nor a file of them: put a comma "
                f"behind the name of a single class, classes=('{classes}',)"
            )
        classes = Path(classes).read_text(encoding='utf-8').splitlines()
    twice = [name for name, count in Counter(classes).items() if count > 1]
    if twice:
        raise UserError(f'classes has {listed(twice)} twice: name each class once')
    return tuple(map(str, classes))


def listed(names: Iterable[str], quote: bool = True) -> str:
    """Names in a sentence, of which the first `SHOWN` are written."""
    names = [f"'{name}'" if quote else str(name) for name in names]
    more = f' and {len(names) - SHOWN} more' if len(names) > SHOWN else ''
    return ', '.join(names[:SHOWN]) + more
