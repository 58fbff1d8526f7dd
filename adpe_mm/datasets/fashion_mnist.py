"""Fashion-MNIST, from the files of its repository to folders of images."""

import gzip
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from adpe_mm.errors import FileInTheWay, MissingFile, UserError

CLASSES = (
    't-shirt', 'trouser', 'pullover', 'dress', 'coat', 'sandal', 'shirt', 'sneaker', 'bag', 'boot'
)  # fmt: skip


def read_idx(path: Path) -> np.ndarray:
    """An array of bytes in IDX format: a magic number, the sizes, the values.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is something else.
    """
    if not path.is_file():
        raise MissingFile(f"there is no '{path}': give the folder of Fashion-MNIST's files")
    content = gzip.decompress(path.read_bytes())
    if content[:3] != b'\0\0\x08':
        raise UserError(f"'{path}' is no IDX file of bytes")
    sizes = np.frombuffer(content, '>i4', count=content[3], offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * len(sizes)).reshape(sizes)


def read_split(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 28, 28) and labels (n,) of 'train' or 't10k'."""
    return (
        read_idx(folder / f'{split}-images-idx3-ubyte.gz'),
        read_idx(folder / f'{split}-labels-idx1-ubyte.gz'),
    )


def write_folders(source: Path, out: Path, labelled: int) -> dict[str, int]:
    """Write ``unlabelled``, ``train`` and ``val``. Returns the number of images in each part.

    Raises:
        FileExistsError: If `out` exists.
        ValueError: If a class has fewer images than asked for.
    """
    if out.exists():
        raise FileInTheWay(f"'{out}' exists: remove it, or choose another folder")
    images, labels = read_split(source, 'train')
    test_images, test_labels = read_split(source, 't10k')
    parts = dict(unlabelled=0, train=0, val=0)
    if labelled > min(np.bincount(labels)):
        raise UserError(f'a class has {min(np.bincount(labels))} images, fewer than {labelled}')

    def save(image: np.ndarray, folder: Path, number: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f'{number:05}.png')

    try:
        for number, image in enumerate(images):
            save(image, out / 'unlabelled', number)
        for label, name in enumerate(CLASSES):
            for number in np.flatnonzero(labels == label)[:labelled]:
                save(images[number], out / 'train' / name, number)
                parts['train'] += 1
        for number, (image, label) in enumerate(zip(test_images, test_labels, strict=True)):
            save(image, out / 'val' / CLASSES[label], number)
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)  # nothing half made
        raise
    return parts | dict(unlabelled=len(images), val=len(test_images))
