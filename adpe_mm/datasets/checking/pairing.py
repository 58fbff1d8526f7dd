"""Which image has a mask, by the names of files."""

import os
from collections import Counter

from mmengine.dataset import BaseDataset

from ..images import EXTENSIONS
from .findings import Findings
from .sources import Source


def check_pairs(source: Source, dataset: BaseDataset, findings: Findings) -> bool:
    """Whether a data set of mmseg has images, each with a mask.

    Args:
        source: Where the config names it.
        dataset: The data set, without its samples.
        findings: Gets what is missing.
    """
    prefix = dataset.data_prefix
    images, masks = prefix.get('img_path') or '', prefix.get('seg_map_path')
    for name, folder in dict(img_path=images, seg_map_path=masks).items():
        if folder is not None and not os.path.isdir(folder):
            findings.problems.append(
                f"there is no folder '{folder}': set {source.setting}.data_root and "
                f'data_prefix.{name}'
            )
            return False
    if dataset.ann_file and os.path.isfile(dataset.ann_file):
        with open(dataset.ann_file, encoding='utf-8') as file:
            stems = {line.strip() for line in file if line.strip()}
    else:
        names = _names_below(images)
        stems = {
            name.removesuffix(dataset.img_suffix)
            for name in names
            if name.endswith(dataset.img_suffix)
        }
        if not stems:
            findings.problems.append(_no_image(source, images, dataset.img_suffix, names))
            return False
        left = [
            name
            for name in names
            if name.lower().endswith(EXTENSIONS) and not name.endswith(dataset.img_suffix)
        ]
        if left and images != masks:
            findings.warnings.append(
                f"{len(left)} images of '{images}' are not used, such as '{min(left)}', as their "
                f"names do not end in {source.setting}.img_suffix='{dataset.img_suffix}'"
            )
    if masks is None:
        return True
    found = _names_below(masks)
    return _compare(source, dataset, stems, found, findings)


def _compare(
    source: Source, dataset: BaseDataset, stems: set[str], found: set[str], findings: Findings
) -> bool:
    suffix, folder = dataset.seg_map_suffix, dataset.data_prefix['seg_map_path']
    have = {name.removesuffix(suffix) for name in found if name.endswith(suffix)}
    without, alone = stems - have, have - stems
    if without:
        name = min(without)
        text = (
            f'{len(without)} of {len(stems)} images of {source.setting} have no mask, such as '
            f"'{name}{dataset.img_suffix}', whose mask would be "
            f"'{os.path.join(folder, name + suffix)}'"
        )
        other = Counter(n[len(name) :] for n in found if n.startswith(name)).most_common(1)
        cure = 'add the masks, or take the images out'
        if other:
            cure = f"set {source.setting}.seg_map_suffix='{other[0][0]}'"
        findings.problems.append(f'{text}: {cure}')
    elif alone and not dataset.ann_file:
        findings.warnings.append(
            f"{len(alone)} masks of '{folder}' have no image, such as '{min(alone)}{suffix}'"
        )
    return not without


def _no_image(source: Source, folder: str, suffix: str, names: set[str]) -> str:
    text = f"no file of '{folder}' ends in {source.setting}.img_suffix='{suffix}'"
    endings = Counter(os.path.splitext(name)[1] for name in names).most_common(1)
    if not endings:
        return f'{text}, as it is empty: set data_root and data_prefix.img_path'
    ending, count = endings[0]
    return f"{text}, but {count} in '{ending}': set {source.setting}.img_suffix='{ending}'"


def _names_below(folder: str) -> set[str]:
    """Files below a folder, relative to it, without hidden ones, as mmseg finds them."""
    found = set()
    for parent, _, names in os.walk(folder, followlinks=True):
        inner = os.path.relpath(parent, folder)
        for name in names:
            if not name.startswith('.'):
                found.add(name if inner == '.' else os.path.join(inner, name))
    return found
