"""Predictions as files that other programs read, and their names."""

import csv
import json
import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from colorsys import hsv_to_rgb
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS
from mmengine.structures import BaseDataElement
from PIL import Image

from adpe_mm.datasets import find_images
from adpe_mm.errors import FileInTheWay, MissingFile


@dataclass(frozen=True)
class NamedImage:
    """An image, and what its results are called.

    Attributes:
        path: To open it.
        file: The same from `root` on, as the results say.
        name: Of its results: `file` without its suffix, unless another image differs in no more.
    """

    path: str
    file: str
    name: str


def name_images(paths: Iterable[str | Path], root: str | Path) -> list[NamedImage]:
    """Name the results of images, so that each has its own; an image that is given twice has one.

    Args:
        paths: Of all images.
        root: A folder that all of them are below.
    """
    files: dict[str, str] = {}
    for path in paths:
        files.setdefault(os.path.relpath(path, root), str(path))
    bare = {file: os.path.splitext(file)[0] for file in files}
    # a.png and a.png.jpg: a name without its suffix may be another image's whole name.
    number = Counter([*bare.values(), *files])
    return [
        NamedImage(path, file, bare[file] if number[bare[file]] == 1 else file)
        for file, path in files.items()
    ]


def find_named(names: Sequence[str | Path], out: str | Path) -> list[NamedImage]:
    """The images of files and folders, named from the folder on that all of these are in.

    Args:
        names: Files, and folders with all below them.
        out: Folder of results; images in it are left out where it lies in a folder that is named.

    Raises:
        FileNotFoundError: If one is missing, or there is no image.
    """
    own = os.path.join(os.path.abspath(out), '')
    paths, folders = [], []
    for name in names:
        folder = os.path.abspath(name if os.path.isdir(name) else os.path.dirname(name))
        folders.append(folder)
        found = find_images([name])
        if own.startswith(os.path.join(folder, '')) and own != os.path.join(folder, ''):
            found = [path for path in found if not os.path.abspath(path).startswith(own)]
        paths += found
    if not paths:
        raise MissingFile(f"there is no image but those of results in '{out}': name others")
    return name_images(paths, os.path.commonpath(folders))


def find_tested(cfg: Config) -> list[NamedImage]:
    """The images of the test set."""
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    paths = [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]
    return name_images(
        paths, os.path.commonpath([os.path.dirname(os.path.abspath(p)) for p in paths])
    )


def colour_of(label: int) -> tuple[int, int, int]:
    """A colour for a class that comes with none; near labels differ."""
    hue, value = label * 0.6180339887 % 1, 1 - 0.25 * (label % 3)
    return tuple(round(255 * part) for part in hsv_to_rgb(hue, 0.75, value))


class PredictionFiles(ABC):
    """What the predictions of one task are written to; a context that ends the files.

    Args:
        out: Folder.
        classes: Names of the classes, in the order of their labels; may be empty.

    Raises:
        FileExistsError: If it is a file.
    """

    def __init__(self, out: Path, classes: Sequence[str]) -> None:
        self.out = out
        self.classes = list(classes)
        if out.is_file():
            raise FileInTheWay(f"--out must be a folder, and '{out}' is a file")
        self.out.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> 'PredictionFiles':
        return self

    def __exit__(self, *_) -> None:
        return None  # of files that are written image by image nothing is left to write

    def class_name(self, label: int) -> str:
        """The name, or a number where none is known."""
        return self.classes[label] if label < len(self.classes) else f'class {label}'

    @abstractmethod
    def add(self, image: NamedImage, sample: BaseDataElement) -> None:
        """Keep the prediction of one image.

        Args:
            image: Which one.
            sample: Of a network's ``test_step``.
        """


class Scores(PredictionFiles):
    """Classification: ``scores.csv``, a line per image with the score of each class."""

    def __init__(self, out: Path, classes: Sequence[str]) -> None:
        super().__init__(out, classes)
        self.file = open(  # noqa: SIM115  it is closed by `__exit__`
            out / 'scores.csv', 'w', newline='', encoding='utf-8', errors='surrogateescape'
        )
        self.writer = csv.writer(self.file)

    def __exit__(self, *_) -> None:
        self.file.close()

    def add(self, image: NamedImage, sample: BaseDataElement) -> None:
        scores = sample.pred_score.tolist()
        names = [self.class_name(label) for label in range(len(scores))]
        if self.file.tell() == 0:
            self.writer.writerow(['image', 'prediction', 'score', *names])
        best = int(sample.pred_score.argmax())
        values = [f'{score:.6g}' for score in scores]
        self.writer.writerow([image.file, names[best], values[best], *values])
        self.file.flush()


class Masks(PredictionFiles):
    """Segmentation: ``masks/NAME.png`` with a number per pixel, and ``classes.csv``.

    Numbers are those of the masks that the network was trained with: of the classes from 0 on, or
    from 1 on with `reduce_zero_label`.

    Args:
        out: Folder.
        classes: See `PredictionFiles`.
        palette: (r, g, b) of each class.
        reduce_zero_label: Of the data set.
    """

    def __init__(
        self,
        out: Path,
        classes: Sequence[str],
        palette: Sequence[Sequence[int]],
        reduce_zero_label: bool,
    ) -> None:
        super().__init__(out, classes)
        self.first = int(reduce_zero_label)
        self.palette = [tuple(colour) for colour in palette]
        with open(out / 'classes.csv', 'w', newline='', encoding='utf-8') as file:
            writer = csv.writer(file)
            writer.writerow(['value', 'class', 'red', 'green', 'blue'])
            for label, colour in enumerate(self.palette):
                writer.writerow([label + self.first, self.class_name(label), *colour])

    def add(self, image: NamedImage, sample: BaseDataElement) -> None:
        values = sample.pred_sem_seg.data[0].cpu().numpy() + self.first
        target = self.out / 'masks' / f'{image.name}.png'
        target.parent.mkdir(parents=True, exist_ok=True)
        if self.first + len(self.palette) > 256:
            Image.fromarray(values.astype(np.uint16)).save(target)
            return
        mask = Image.fromarray(values.astype(np.uint8), mode='P')
        mask.putpalette(bytes(sum([(0, 0, 0)] * self.first + self.palette, ())))
        mask.save(target)


class Boxes(PredictionFiles):
    """Detection: ``boxes.json``, a data set in COCO's format whose objects have a score.

    Categories are numbered from 1 in the order of the classes; images from 1 in that of the
    images. Masks are COCO's compressed run lengths.
    """

    def __init__(self, out: Path, classes: Sequence[str]) -> None:
        super().__init__(out, classes)
        self.images: list[dict] = []
        self.objects: list[dict] = []

    def add(self, image: NamedImage, sample: BaseDataElement) -> None:
        from pycocotools.mask import area, encode

        height, width = sample.ori_shape
        number = len(self.images) + 1
        self.images.append(dict(id=number, file_name=image.file, width=width, height=height))
        found = sample.pred_instances
        for i, box in enumerate(found.bboxes.tolist()):
            left, top, right, bottom = (round(edge, 2) for edge in box)
            entry = dict(
                id=len(self.objects) + 1,
                image_id=number,
                category_id=int(found.labels[i]) + 1,
                bbox=[left, top, round(right - left, 2), round(bottom - top, 2)],
                area=round((right - left) * (bottom - top), 2),
                score=round(float(found.scores[i]), 5),
                iscrowd=0,
            )
            if 'masks' in found:
                mask = encode(np.asfortranarray(found.masks[i].cpu().numpy().astype(np.uint8)))
                entry.update(
                    area=int(area(mask)),
                    segmentation=dict(size=mask['size'], counts=mask['counts'].decode('ascii')),
                )
            self.objects.append(entry)

    def __exit__(self, *_) -> None:
        last = max((entry['category_id'] for entry in self.objects), default=0)
        names = [self.class_name(label) for label in range(max(last, len(self.classes)))]
        categories = [dict(id=i, name=name) for i, name in enumerate(names, start=1)]
        content = dict(images=self.images, annotations=self.objects, categories=categories)
        (self.out / 'boxes.json').write_text(json.dumps(content) + '\n', encoding='utf-8')
