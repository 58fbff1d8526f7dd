"""Large photographs cut into tiles."""

import math
import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from adpe_mm.errors import FileInTheWay, MissingFile, UserError

from .finding import EXTENSIONS, Finder
from .reading import UnreadableImage, ValueRange, check_value_range, read_image


def tile_starts(length: int, size: int, overlap: int) -> list[int]:
    """Where tiles of `size` start that cover `length` and share at least `overlap`, in pixels."""
    if length <= size:
        return [0]
    gaps = math.ceil((length - size) / (size - overlap))
    return [round(i * (length - size) / gaps) for i in range(gaps + 1)]


def tile_photo(
    image: Image.Image,
    path: Path,
    folder: Path,
    size: int,
    overlap: int,
    min_std: float,
    quality: int,
) -> Counter:
    """Cut one photograph.

    Args:
        image: The photograph, RGB.
        path: Where it is from.
        folder: To write to.
        size: Side of a tile, in pixels.
        overlap: That neighbours share at least, in pixels.
        min_std: Standard deviation of grey levels (0 to 255) below which a tile is left out.
        quality: JPEG quality.

    Returns:
        How many were 'tiles', 'copied' and 'uniform'.
    """
    counts: Counter = Counter()
    for top in tile_starts(image.height, size, overlap):
        for left in tile_starts(image.width, size, overlap):
            right, bottom = min(left + size, image.width), min(top + size, image.height)
            tile = image.crop((left, top, right, bottom))
            if np.asarray(tile.convert('L')).std() < min_std:
                counts['uniform'] += 1
                continue
            folder.mkdir(parents=True, exist_ok=True)
            if tile.size == image.size and path.suffix.lower() in EXTENSIONS:
                shutil.copyfile(path, folder / path.name)
                counts['copied'] += 1
            else:
                tile.save(folder / f'{path.name}-{top}-{left}.jpg', quality=quality)
                counts['tiles'] += 1
    return counts


def tile_photos(
    src: Path,
    out: Path,
    size: int = 512,
    overlap: int = 0,
    min_std: float = 4,
    quality: int = 95,
    value_range: ValueRange = None,
) -> Counter:
    """Cut all photographs below `src` into tiles below `out`.

    Args:
        src: Folder with photographs, nested or not.
        out: Folder to make.
        size: Side of a tile, in pixels.
        overlap: That neighbours share at least, in pixels.
        min_std: Standard deviation of grey levels (0 to 255) below which a tile is left out.
        quality: JPEG quality.
        value_range: (low, high) of photographs that have not 8 bits: see `read_image`.

    Returns:
        How many photographs were 'read' and 'unreadable', and how many tiles were written as
        'tiles', 'copied' or left out as 'uniform'.

    Raises:
        FileNotFoundError: If there is no `src`, or no image in it.
        FileExistsError: If `out` is not empty.
        ValueError: If a number makes no sense, `out` lies in `src`, or nothing is left to write.
    """
    if size < 1 or not 0 <= overlap < size:
        raise UserError(f'--overlap must lie in [0, --size), got --size {size} --overlap {overlap}')
    if not 1 <= quality <= 100:
        raise UserError(f'--quality must lie in 1..100, got {quality}')
    value_range = check_value_range(value_range)
    if not src.is_dir():
        raise MissingFile(f"there is no folder '{src}': name one with photographs")
    if out.resolve().is_relative_to(src.resolve()):
        raise UserError(f"'{out}' lies in '{src}', whose images are read: name another folder")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileInTheWay(f"'{out}' is there and not empty: name another folder, or remove it")
    suffixes = {end for end, name in Image.registered_extensions().items() if name in Image.OPEN}
    finder = Finder(tuple(suffixes))
    paths = [path for path in map(Path, finder.images(src)) if path.is_file()]
    if not paths:
        raise MissingFile(f"there is no image in '{src}': name a folder with photographs")
    finder.report(len(paths), f"'{src}'")
    counts: Counter = Counter()
    for path in paths:
        try:
            image = Image.fromarray(read_image(path, value_range))
        except UnreadableImage as error:
            print(f"cannot read '{path}': {error}", file=sys.stderr)
            counts['unreadable'] += 1
            continue
        counts['read'] += 1
        folder = out / path.parent.relative_to(src)
        counts.update(tile_photo(image, path, folder, size, overlap, min_std, quality))
    if not counts['tiles'] + counts['copied']:
        raise UserError(
            f'nothing to write: of {len(paths)} images {counts["unreadable"]} are unreadable '
            f'and the others nearly uniform (lower --min-std from {min_std:g}?)'
        )
    return counts
