"""Labelled images for probes: which there are, to fit on and to judge by."""

from dataclasses import dataclass
from pathlib import Path

from adpe_mm.datasets import extensions, find_images
from adpe_mm.errors import MissingFile, UserError

VAL_FOLDERS = ('val', 'validation', 'test')
HELD_OUT = 5  # Where nothing is set apart to judge on, every fifth image of a class is.


@dataclass(frozen=True)
class Split:
    """Images with labels.

    Attributes:
        paths: Of the files.
        labels: Numbers of their classes.
    """

    paths: list[str]
    labels: list[int]

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True)
class Labelled:
    """Images to fit a probe on, and others to judge it by.

    Attributes:
        classes: Names, in order.
        train: To fit on.
        val: To judge by.
    """

    classes: list[str]
    train: Split
    val: Split


def find_labelled(
    data: str | Path, max_train: int, max_val: int, channels: int | None = None
) -> Labelled:
    """Find labelled images.

    Args:
        data: One of

            - a folder with a folder of images for each class;
            - a folder with such folders in ``train`` and in ``val`` (or ``validation`` or
              ``test``);
            - a text file with a line 'path label' for each image, separated by a tab or the last
              space, and paths relative to the file's folder.

            Where nothing is set apart, every fifth image of each class is to judge by.
        max_train: Images to fit on, at most: as many of each class, spread over its files.
        max_val: Images to judge by, at most.
        channels: Number of bands; None for RGB.

    Raises:
        FileNotFoundError: If there is no such folder or list, or no image in it.
        ValueError: If there are not two classes, or a class has too few images.
    """
    data = Path(data)
    if data.is_file():
        train, val = _listed(data), None
    elif data.is_dir():
        parts = [data / name for name in VAL_FOLDERS if (data / name).is_dir()]
        if (data / 'train').is_dir() and parts:
            train, val = (_class_folders(p, channels) for p in (data / 'train', parts[0]))
        else:
            train, val = _class_folders(data, channels), None
    else:
        raise MissingFile(f"there is no folder or list of labelled images '{data}'")
    if len(train) < 2:
        raise UserError(
            f"probes need two classes at least, and '{data}' has {sorted(train)}: give a folder "
            "with a folder for each class, or a list with a line 'path label' for each image"
        )
    if val is None:
        few = [name for name, paths in train.items() if len(paths) < 2]
        if few:
            raise UserError(
                f"class '{few[0]}' of '{data}' has one image, and a probe needs one to fit and "
                'one to judge by: add images, or leave the class out'
            )
        val = {name: paths[::HELD_OUT] for name, paths in train.items()}
        train = {
            name: [path for i, path in enumerate(paths) if i % HELD_OUT]
            for name, paths in train.items()
        }
    unknown = sorted(set(val) - set(train))
    if unknown:
        raise UserError(
            f"'{data}' has images of class '{unknown[0]}' to judge by and none to fit on: give "
            'both parts the same classes'
        )
    classes = sorted(train)
    return Labelled(classes, _split(train, classes, max_train), _split(val, classes, max_val))


def _class_folders(folder: Path, channels: int | None) -> dict[str, list[str]]:
    """Paths by the names of the folders that they are below."""
    folders = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith('.'))
    if not folders:
        raise UserError(f"'{folder}' has no folder for each class: sort the images into some")
    return {path.name: find_images([path], extensions(channels)) for path in folders}


def _listed(file: Path) -> dict[str, list[str]]:
    """Paths by the labels of a list."""
    labels: dict[str, str] = {}
    for number, line in enumerate(file.read_text(encoding='utf-8').splitlines(), start=1):
        if not line.strip():
            continue
        path, _, label = line.strip().rpartition('\t' if '\t' in line.strip() else ' ')
        if not path.strip():
            raise UserError(f"line {number} of '{file}' is no 'path label': '{line.strip()}'")
        path = str(file.parent / path.strip())
        if labels.setdefault(path, label) != label:
            raise UserError(f"'{file}' gives '{path}' two labels, '{labels[path]}' and '{label}'")
    found: dict[str, list[str]] = {}
    for path in find_images(labels):
        found.setdefault(labels[path], []).append(path)
    return found


def _split(paths: dict[str, list[str]], classes: list[str], limit: int) -> Split:
    """At most so many, of each class the same number, spread evenly over its files."""
    most, total = limit, sum(map(len, paths.values()))
    if total > limit:
        most = max(1, limit // len(paths))
    chosen: list[tuple[str, int]] = []
    for label, name in enumerate(classes):
        given = paths.get(name, [])
        number = min(most, len(given))
        chosen += [(given[i * len(given) // number], label) for i in range(number)]
    return Split([path for path, _ in chosen], [label for _, label in chosen])
