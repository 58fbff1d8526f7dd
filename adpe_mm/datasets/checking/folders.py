"""Folders and lists that say which class an image is of."""

import os

from mmengine.dataset import BaseDataset

from .files import some
from .findings import Findings
from .sources import Source


def class_folders(dataset: BaseDataset) -> list[str] | None:
    """The folders by whose sorted names mmpretrain numbers classes; None where a list does."""
    root = getattr(dataset, 'img_prefix', None)
    if dataset.ann_file or not getattr(dataset, 'with_label', False) or not root:
        return None
    if not os.path.isdir(root):
        return None
    return sorted(entry.name for entry in os.scandir(root) if entry.is_dir())


def compare_folders(
    trained: list[str] | None, there: str, source: Source, folders: list[str] | None,
    dataset: BaseDataset, findings: Findings,
) -> None:  # fmt: skip
    """The class folders of a data set against those of training.

    Args:
        trained: Class folders of training; None where a list has the labels.
        there: Where they are.
        source: Where the config names the other data set.
        folders: Its class folders, or None.
        dataset: It.
        findings: Gets what differs.
    """
    if trained is None or folders is None or trained == folders:
        return
    here = dataset.img_prefix
    missing, more = set(trained) - set(folders), set(folders) - set(trained)
    parts = [f"'{here}' lacks {some(sorted(missing))} of '{there}'"] if missing else []
    parts += [f"'{here}' has {some(sorted(more))}, which '{there}' lacks"] if more else []
    moved = [n for n in folders if n in trained]
    moved = [n for n in moved if folders.index(n) != trained.index(n)]
    text = f'the class folders of {source.setting} are not those of training: {", ".join(parts)}'
    if moved or more:
        findings.problems.append(
            f'{text}; folders are numbered in the order of their names, so {some(moved or more)} '
            'would have another label: make the missing folders, which may be empty, or remove '
            'those that are too many'
        )
    else:
        findings.warnings.append(f'{text}; the others keep their labels, as it is the last ones')


def check_names(
    source: Source, dataset: BaseDataset, folders: list[str] | None, findings: Findings
) -> None:
    """Names of the config, against the folders."""
    names = dataset.CLASSES
    if names is None or folders is None:
        return
    names = list(names)
    if len(names) != len(folders):
        findings.problems.append(
            f"'{dataset.img_prefix}' has {len(folders)} class folders ({some(folders)}), but "
            f'{source.setting} names {len(names)} classes ({some(names)}): leave '
            f'{source.setting}.metainfo.classes out, which takes the names of the folders, or name '
            'as many'
            + (", and set type='CustomDataset'" if source.type.startswith('ImageNet') else '')
        )
        return
    wrong = [(n, f) for n, f in zip(names, folders, strict=True) if n != f]
    if any(name in folders for name, _ in wrong):
        findings.problems.append(
            f'{source.setting}.metainfo.classes has {some(n for n, _ in wrong)} where the sorted '
            f"folders of '{dataset.img_prefix}' have {some(f for _, f in wrong)}: name the classes "
            'in the order of the folders, or leave them out'
        )
    elif wrong and len(wrong) < len(names):  # all others are the folders' names, as all could be
        findings.warnings.append(
            f'{source.setting}.metainfo.classes calls the folder {wrong[0][1]!r} {wrong[0][0]!r}: '
            'is that meant?'
        )


def bad_line(dataset: BaseDataset) -> str | None:
    """The line of a list of mmpretrain's CustomDataset that is no path and label, if there is."""
    path = dataset.ann_file
    if not getattr(dataset, 'with_label', False) or not path or not os.path.isfile(path):
        return None
    with open(path, encoding='utf-8') as file:
        for number, line in enumerate(file, start=1):
            if not line.strip().rpartition(' ')[2].isdigit() or ' ' not in line.strip():
                return (
                    f"line {number} of '{path}' is {line.strip()!r}, but should be the path of an "
                    'image, a blank, and the number of its class, from 0 on'
                )
    return None
