"""Class folders, lists of labels, and what the network expects of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from mmengine.config import Config
from mmengine.dataset import BaseDataset

from ..classes import dicts
from .batches import check_batches
from .files import (
    allowed_fraction,
    check_images,
    check_overlap,
    distinct_sources,
    load_samples,
    make_dataset,
    some,
)
from .findings import Findings
from .folders import bad_line, check_names, class_folders, compare_folders
from .sources import Source

COUNTED = 20  # classes whose images are counted one by one in the facts


@dataclass
class Split:
    """What a data set has.

    Args:
        source: Where the config names it.
        classes: Names of the classes; None if nothing says so.
        folders: Names of the class folders, sorted; None where a list has the labels.
        root: Folder of the images.
        paths: Of the images.
        labels: Of the images, several of one image one by one.
    """

    source: Source
    classes: Sequence[str] | None
    folders: list[str] | None
    root: str
    paths: list[str]
    labels: np.ndarray


def check_classification(cfg: Config, findings: Findings, every: bool) -> None:
    """Compare folders, lists, names and numbers of classes with each other.

    Args:
        cfg: Config of the run.
        findings: Gets what is found.
        every: Look at each image.
    """
    trained: list[Split] = []
    for loader, source in distinct_sources(cfg):
        dataset = make_dataset(source, cfg.default_scope, findings)
        if dataset is None:
            continue
        before = len(findings.problems)
        folders = class_folders(dataset)
        training = loader == 'train_dataloader'
        for other in [] if training else trained[:1]:
            compare_folders(other.folders, other.root, source, folders, dataset, findings)
        if len(findings.problems) == before:
            check_names(source, dataset, folders, findings)
        if len(findings.problems) > before:
            continue
        split = _load(source, dataset, folders, findings)
        if split is None:
            continue
        _check_numbers(cfg, split, training or not trained, findings)
        text = check_images(source, split.paths, every, allowed_fraction(cfg, loader), findings)
        findings.facts.append(f'{source.setting}: {_counts(split)}, {text}')
        if training:
            trained.append(split)
        elif trained:
            paths = [path for other in trained for path in other.paths]
            check_overlap(cfg, paths, loader, source, split.paths, findings)
            _compare_classes(trained[0], split, findings)
    check_batches(cfg, sum(len(split.paths) for split in trained), findings)


def _load(
    source: Source, dataset: BaseDataset, folders: list[str] | None, findings: Findings
) -> Split | None:
    line = bad_line(dataset)
    if line is not None:
        findings.problems.append(line)
        return None
    samples = load_samples(source, dataset, findings)
    if samples is None:
        return None
    labels = [sample['gt_label'] for sample in samples if 'gt_label' in sample]
    return Split(
        source,
        dataset.CLASSES,
        folders,
        str(dataset.img_prefix),
        [sample['img_path'] for sample in samples if 'img_path' in sample],
        np.concatenate([np.atleast_1d(label) for label in labels]) if labels else np.zeros(0, int),
    )


def _check_numbers(cfg: Config, split: Split, first: bool, findings: Findings) -> None:
    """Labels and number of classes, against the network's; this only of the `first` split."""
    setting, outputs = split.source.setting, (cfg.model.get('head') or {}).get('num_classes')
    known = len(split.classes) if split.classes is not None else None
    highest = int(split.labels.max()) if len(split.labels) else -1
    wanted = known or highest + 1
    advice = f'model.head.num_classes={wanted}'
    if cfg.model.get('data_preprocessor', {}).get('num_classes') is not None:
        advice += f' model.data_preprocessor.num_classes={wanted}'
    advice = f'set --cfg-options {advice}'
    if known is not None and highest >= known:
        path = split.paths[int(split.labels.argmax())] if split.paths else setting
        findings.problems.append(
            f"'{path}' has the label {highest}, but {setting} has {known} classes, 0 to "
            f'{known - 1}: correct the label, or name all classes in {setting}.metainfo.classes'
        )
    elif first and outputs is not None and highest >= outputs:
        findings.problems.append(
            f'{setting} has {wanted} classes, but model.head.num_classes={outputs}: {advice}'
        )
    elif first and outputs is not None and known is not None and known != outputs:
        findings.problems.append(
            f'{setting} has {known} classes ({some(split.classes)}), but '
            f'model.head.num_classes={outputs}: {advice}'
        )
    elif first and outputs is not None and outputs > wanted:
        findings.warnings.append(
            f'the labels of {setting} end at {highest}, and model.head.num_classes={outputs}'
        )
    _check_network(cfg, outputs, findings)
    empty = set(range(known or 0)) - set(split.labels.tolist())
    if first and empty and len(split.labels):
        names = [split.classes[label] for label in sorted(empty)]
        findings.warnings.append(f'{setting} has no image of {some(names)}')


def _check_network(cfg: Config, outputs: int | None, findings: Findings) -> None:
    """Numbers of classes within the model."""
    mixed = (cfg.model.get('train_cfg') or {}).get('augments')
    expected = (cfg.model.get('data_preprocessor') or {}).get('num_classes')
    problems = []
    if mixed and outputs is not None and expected is not None and expected != outputs:
        problems.append(
            f'model.data_preprocessor.num_classes={expected}, but model.head.num_classes={outputs}:'
            ' mixup and cutmix need both alike'
        )
    for head in dicts(cfg.model.get('head')):
        topk = head.get('topk', 1)
        most = max(topk) if isinstance(topk, list | tuple) else topk
        if head.get('cal_acc') and outputs is not None and most > outputs:
            problems.append(
                f'model.head.topk={topk} needs {most} classes, and there are {outputs}: set '
                'model.head.topk=1'
            )
    findings.problems += [text for text in problems if text not in findings.problems]


def _compare_classes(trained: Split, split: Split, findings: Findings) -> None:
    if trained.classes is None or split.classes is None:
        return
    ours, theirs = list(trained.classes), list(split.classes)
    if ours != theirs and not (trained.folders and split.folders):
        place = next(
            (n for n, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), None
        )
        what = f'{len(theirs)} classes, not {len(ours)}'
        if place is not None:
            what = f'{theirs[place]!r} as class {place}, where training has {ours[place]!r}'
        findings.problems.append(
            f'{split.source.setting} has {what}: give both the same metainfo.classes, in the same '
            'order'
        )


def _counts(split: Split) -> str:
    """Images and classes in words, with the images of each class if there are few."""
    text = f'{len(split.paths) or len(split.labels)} images'
    if not len(split.labels):
        return f'{text} without labels'
    counts = np.bincount(split.labels, minlength=len(split.classes or ()))
    text += f' of {len(counts)} classes'
    if len(counts) > COUNTED:
        return f'{text} ({counts.min()} to {counts.max()} of each)'
    names = [*(split.classes or ()), *range(len(split.classes or ()), len(counts))]
    each = ', '.join(f'{name} {count}' for name, count in zip(names, counts, strict=True))
    return f'{text} ({each})'
