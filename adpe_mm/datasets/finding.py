"""Which files of folders are images, and what is said of the others."""

import logging
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from mmengine.logging import print_log

from adpe_mm.errors import MissingFile, UserError

EXTENSIONS = ('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.tif', '.tiff')
ARRAY = '.npy'  # an image only where bands are wanted: what else is in a folder of photographs?
SIZES_CHECKED = 10_000  # of a folder's images: to ask for a size is slow on the disks of a cluster
EXAMPLES = 3


def extensions(channels: int | None) -> tuple[str, ...]:
    """Endings of the names of images: of so many bands, arrays too; None for RGB."""
    return EXTENSIONS if channels is None else (*EXTENSIONS, ARRAY)


class Finder:
    """Finds the images below folders, and counts what else lies there.

    Links are followed, each real folder is visited once; what is hidden (a name that begins with a
    dot) is left out.

    Args:
        endings: Of the names of images, in lower case.
    """

    def __init__(self, endings: tuple[str, ...] = EXTENSIONS) -> None:
        self.endings = endings
        self._seen: set[tuple[int, int]] = set()
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, list[str]] = {}

    def images(self, folder: str | Path) -> list[str]:
        """Paths of all images below a folder, in the order of their names.

        Raises:
            ValueError: If the folder was searched already.
        """
        if self._key(folder) in self._seen:
            raise UserError(
                f"'{folder}' is named twice, or lies in another folder that is named: name each "
                'folder once (RepeatDataset repeats one)'
            )
        paths = []
        for parent, folders, names in os.walk(folder, onerror=_warn, followlinks=True):
            key = self._key(parent)
            if key in self._seen:
                folders.clear()
                continue
            self._seen.add(key)
            for name in folders:
                if name.startswith('.'):
                    self._count('hidden', os.path.join(parent, name))
            # In the order of names, or it would be chance by which of two ways a folder is found.
            folders[:] = sorted(name for name in folders if not name.startswith('.'))
            paths += self._images_of(parent, sorted(names))
        paths.sort()
        for path in paths[:SIZES_CHECKED]:
            if os.path.exists(path) and not os.path.getsize(path):
                self._count('empty', path)
        return paths

    @staticmethod
    def _key(folder: str | Path) -> tuple[int, int]:
        status = os.stat(folder)
        return status.st_dev, status.st_ino

    def _images_of(self, parent: str, names: list[str]) -> list[str]:
        """Paths of the images among the files of one folder."""
        paths, stems = [], set()
        for name in names:
            if name.startswith('.'):
                self._count('hidden', os.path.join(parent, name))
                continue
            stem, ending = os.path.splitext(name)
            if ending.lower() not in self.endings:
                self._count(ending.lower() or 'without an ending', os.path.join(parent, name))
                continue
            if stem in stems:
                self._count('twin', os.path.join(parent, name))
            stems.add(stem)
            paths.append(os.path.join(parent, name))
        return paths

    def _count(self, kind: str, path: str) -> None:
        self._counts[kind] += 1
        examples = self._examples.setdefault(kind, [])
        if len(examples) < EXAMPLES:
            examples.append(path)

    def __str__(self) -> str:
        """One sentence about what is not used or doubtful; empty if there is nothing to say."""
        counts = dict(self._counts)
        twins, empty = counts.pop('twin', 0), counts.pop('empty', 0)
        parts = []
        if counts:
            unused = (
                f'{number} {kind} ({self._example(kind)})'
                for kind, number in sorted(counts.items(), key=lambda item: -item[1])
            )
            parts.append(f'not used are {", ".join(unused)}')
        if twins:
            parts.append(
                f'{twins} images have the name of another but for its ending '
                f'({self._example("twin")}), and both are used'
            )
        if empty:
            parts.append(f'{empty} files are empty ({self._example("empty")})')
        return '; '.join(parts)

    def _example(self, kind: str) -> str:
        examples = ', '.join(self._examples[kind])
        return examples + (', ...' if self._counts[kind] > EXAMPLES else '')

    def report(self, number: int, where: str) -> None:
        """Say in one line what is not used.

        Args:
            number: Of the images that were found.
            where: They were found.
        """
        if str(self):
            print_log(f'{number} images in {where}; {self}', logger='current')


def _warn(error: OSError) -> None:
    print_log(f'left out a folder: {error}', logger='current', level=logging.WARNING)


def find_images(names: Iterable[str | Path], endings: tuple[str, ...] = EXTENSIONS) -> list[str]:
    """Paths of images, given as files and as folders with all below them.

    What else lies in the folders is said in one line of the log.

    Args:
        names: Files and folders.
        endings: Of the names of images in a folder, see `extensions`.

    Raises:
        FileNotFoundError: If one is missing, or there is no image in a folder.
    """
    paths: list[str] = []
    names = list(map(str, names))
    for name in names:
        if Path(name).is_dir():
            finder = Finder(endings)
            found = finder.images(name)
            finder.report(len(found), f"'{name}'")
        else:
            found = [name] if Path(name).is_file() else []
        if not found:
            kinds = ', '.join(endings)
            raise MissingFile(f"there is no image or folder of images '{name}' ({kinds})")
        paths += found
    return paths
