"""Photographs that backgrounds are cut from."""

import functools
import hashlib
import os
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from adpe_mm.errors import MissingFile, UserError

from ..images import EXTENSIONS


def find_photos(folder: str) -> list[str]:
    """Paths of the photographs below a folder, sorted; what is no image is named and left out.

    Raises:
        FileNotFoundError: If there is none.
    """
    photos = []
    for path in sorted(Path(folder).rglob('*')):
        if path.suffix.lower() not in EXTENSIONS:
            continue
        try:
            with Image.open(path):
                photos.append(str(path))
        except (OSError, Image.DecompressionBombError) as error:
            print(f'left out: {error}')
    if not photos:
        raise MissingFile(
            f"there is no photograph ({', '.join(EXTENSIONS)}) in '{folder}': set --photos to "
            'a folder with some, or leave it out'
        )
    return photos


def digest(files: list[str], folder: str) -> str:
    """What tells a list of files from another: their paths below a folder, and their sizes."""
    listing = [f'{os.path.relpath(path, folder)} {os.path.getsize(path)}' for path in files]
    return hashlib.sha256('\n'.join(listing).encode()).hexdigest()


@functools.lru_cache(maxsize=64)
def load_photo(path: str) -> np.ndarray:
    """A photograph as uint8 RGB, shrunk to at most 1024 px.

    Raises:
        ValueError: If it is broken.
    """
    try:
        with Image.open(path) as image:
            image = image.convert('RGB')
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"remove the broken photograph '{path}': {error}") from error
    image.thumbnail((1024, 1024))
    return np.asarray(image)


def random_crop(rng: np.random.Generator, path: str, shape: tuple[int, int]) -> np.ndarray:
    """A random part of a photograph, of random scale, as uint8 RGB of `shape` (height, width)."""
    photo = load_photo(path)
    scale = rng.uniform(0.4, 1) * min(photo.shape[0] / shape[0], photo.shape[1] / shape[1])
    height, width = (max(int(scale * n), 1) for n in shape)
    top = rng.integers(photo.shape[0] - height + 1)
    left = rng.integers(photo.shape[1] - width + 1)
    crop = photo[top : top + height, left : left + width]
    method = cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR
    return cv2.resize(crop, shape[::-1], interpolation=method)
