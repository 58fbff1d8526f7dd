"""What the pixels of masks are, and which labels a training makes of them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from mmengine.config import ConfigDict
from mmengine.dataset import BaseDataset
from PIL import Image

from ..classes import dicts
from ..masks import IGNORED, LoadAnnotations, read_mask
from .files import image_size, sample, some
from .findings import Findings
from .sources import Source, type_of

DECODED = 32  # masks of a data set that are read, unless all are
# How people call what is no object, where it is a class.
BACKGROUNDS = {'background', '_background_', '__background__', 'bg', 'back', 'none', 'nothing'}


@dataclass
class Seen:
    """What the masks that were read have.

    Args:
        pixels: Of each value, over all masks.
        first: A mask with that value.
        blank: Masks of which no pixel is learnt.
        number: How many were read.
    """

    pixels: Counter = field(default_factory=Counter)
    first: dict[int, str] = field(default_factory=dict)
    blank: list[str] = field(default_factory=list)
    number: int = 0


def check_masks(
    source: Source, dataset: BaseDataset, samples: list[dict], every: bool, findings: Findings
) -> None:
    """Read masks, and see which labels their values become.

    Args:
        source: Where the config names the data set.
        dataset: It, of mmseg.
        samples: Its samples.
        every: Read all masks, not some of them.
        findings: Gets what is found.
    """
    pairs = [(s['img_path'], s['seg_map_path']) for s in samples if s.get('seg_map_path')]
    if not pairs:
        return
    problem = _check_headers(sample(pairs, every)) or _check_switch(source, dataset)
    if problem:
        findings.problems.append(problem)
        return
    step = _loading_step(source.dataset)
    values = step.get('values') if step and 'values' in step else None
    seen = Seen()
    for _, path in sample(pairs, every, DECODED):
        try:
            mask = read_mask(Path(path).read_bytes())
        except Exception as error:  # whatever Pillow raises
            findings.problems.append(f'cannot read the mask {path} ({error}): repair it')
            return
        found, counts = np.unique(mask, return_counts=True)
        seen.number += 1
        if (labels_of(found, dataset, values) == IGNORED).all():
            seen.blank.append(path)
        for value, count in zip(found.tolist(), counts.tolist(), strict=True):
            seen.pixels[value] += count
            seen.first.setdefault(value, path)
    _judge(source, dataset, values, seen, findings)


def labels_of(values: np.ndarray, dataset: BaseDataset, named: Sequence[int] | None) -> np.ndarray:
    """The labels that the pipeline makes of values of masks.

    Args:
        values: Any.
        dataset: Of mmseg, whose settings its own `LoadAnnotations` follows.
        named: The argument of ours; None for mmseg's.

    Returns:
        int, of the same shape; `IGNORED` for what is not learnt.
    """
    if named is not None:
        return LoadAnnotations(named).labels(values).astype(int)
    labels = values.astype(np.uint8).astype(int)  # as mmseg's, which wraps round
    if dataset.reduce_zero_label:
        labels = np.where((labels == 0) | (labels == IGNORED), IGNORED, labels - 1)
    changed = dataset.label_map or {}
    return np.array([changed.get(label, label) for label in labels.ravel()]).reshape(labels.shape)


def _loading_step(dataset: ConfigDict) -> ConfigDict | None:
    steps = [s for s in dicts(dataset.get('pipeline')) if type_of(s) == 'LoadAnnotations']
    return steps[0] if steps else None


def _check_switch(source: Source, dataset: BaseDataset) -> str | None:
    step = _loading_step(source.dataset) or {}
    stated = step.get('reduce_zero_label')
    if stated is None or stated == dataset.reduce_zero_label:
        return None
    return (
        f'{source.setting}.reduce_zero_label={dataset.reduce_zero_label}, but LoadAnnotations in '
        f'its pipeline has reduce_zero_label={stated}: leave it out of the pipeline, which follows '
        'the data set'
    )


def _check_headers(pairs: Sequence[tuple[str, str]]) -> str | None:
    """The sentence for the first mask of a wrong form."""
    for image, path in pairs:
        try:
            with Image.open(path) as mask:
                mode, size, kind = mask.mode, mask.size, mask.format
        except Exception as error:  # whatever Pillow raises
            return f'cannot read the mask {path} ({error}): repair it, or take its image out'
        if mode not in ('1', 'L', 'P') and not mode.startswith('I'):
            return (
                f"the mask '{path}' has colours (mode {mode}), not numbers of classes: save it as "
                'a grey PNG, or as one with a palette, whose numbers count'
            )
        if kind == 'JPEG':
            return (
                f"the mask '{path}' is a JPEG, which changes numbers of classes along edges: save "
                'masks as PNG, from the original labels'
            )
        expected = image_size(image)
        if expected is not None and expected != size:
            return (
                f"the mask '{path}' has {size[0]} x {size[1]} px, its image '{image}' "
                f'{expected[0]} x {expected[1]}: make them alike'
            )
    return None


def _judge(
    source: Source, dataset: BaseDataset, values: Sequence[int] | None, seen: Seen,
    findings: Findings,
) -> None:  # fmt: skip
    classes = list(dataset.metainfo['classes'])
    raw = np.array(sorted(seen.pixels))
    labels = labels_of(raw, dataset, values)
    found = raw.tolist()
    text = f'{source.setting}: {seen.number} masks were read, with the values {_ranges(found)}'
    findings.facts.append(f'{text}; {_shares(classes, labels, raw, seen)}')
    beyond = [
        int(v) for v, label in zip(raw, labels, strict=True) if IGNORED > label >= len(classes)
    ]
    wide = [value for value in found if value > 255 and values is None]
    if values is None and set(found) <= {0, 255} and 255 in found:
        findings.problems.append(
            f"the masks of {source.setting}, such as '{seen.first[255]}', have the values 0 and "
            f'255, which is ignored: state {_switch(classes, (0, 255))}'
        )
    elif wide:
        findings.problems.append(
            f"the mask '{seen.first[wide[0]]}' has the value {wide[0]}, and mmseg keeps 8 bits: "
            'name the values of the classes, mask_values=(...) at the top of the config'
        )
    elif beyond:
        findings.problems.append(_beyond(source, dataset, seen, classes, found, beyond[0]))
    elif len(seen.blank) == seen.number:
        findings.problems.append(
            f"no pixel of the masks of {source.setting}, such as '{seen.blank[0]}', is of a class: "
            f'they have the values {_ranges(found)}; name those of the classes, mask_values=(...)'
        )
    elif values is None and dataset.reduce_zero_label and 0 in found:
        shifted = found[: len(classes)] == list(range(len(classes))) and len(classes) not in found
        if classes[0].lower() in BACKGROUNDS or shifted:
            findings.problems.append(
                f'the masks of {source.setting} have the values {_ranges(found)}, and '
                f'reduce_zero_label=True ignores 0 and makes 1 the class {classes[0]!r}: if 0 is '
                f'{classes[0]!r}, state {_switch(classes, range(len(classes)))}; if 0 has no '
                f'class, state {_switch(classes, range(1, len(classes) + 1))}'
            )
    if seen.blank and len(seen.blank) < seen.number:
        findings.warnings.append(
            f'{len(seen.blank)} of {seen.number} masks of {source.setting} have no pixel of a '
            f"class, such as '{seen.blank[0]}'"
        )


def _beyond(
    source: Source, dataset: BaseDataset, seen: Seen, classes: list[str], found: list[int],
    value: int,
) -> str:  # fmt: skip
    """The sentence for a value that no class has."""
    number = len(classes)
    first, last = (1, number) if dataset.reduce_zero_label else (0, number - 1)
    text = (
        f"the mask '{seen.first[value]}' has the value {value}, but the {number} classes of "
        f'{source.setting} ({some(classes)}) have {first} to {last}: '
    )
    kept = [v for v in found if v != IGNORED]
    if not dataset.reduce_zero_label and kept[-1] == number:
        text += f'state {_switch(classes, range(1, number + 1))}'
        if 0 in kept:
            text += (
                ', which leaves 0 out, or name the background too, '
                f'{_switch(["background", *classes], range(number + 1))}'
            )
        return text
    return f'{text}correct the mask, or name all classes and their values, classes and mask_values'


def _switch(classes: list[str], values: Sequence[int]) -> str:
    """What to put at the top of a config."""
    if len(values) != len(classes):
        return f'classes=[...] and mask_values={list(values)}'
    if len(values) <= 20:
        return f'classes={classes} and mask_values={list(values)}'
    return f'mask_values=list(range({values[0]}, {values[-1] + 1}))'


def _ranges(values: list[int]) -> str:
    """'0 to 3, 255' of sorted values."""
    parts: list[list[int]] = []
    for value in values:
        if parts and value == parts[-1][-1] + 1:
            parts[-1].append(value)
        else:
            parts.append([value])
    texts = [str(p[0]) if len(p) == 1 else f'{p[0]} to {p[-1]}' for p in parts]
    return ', '.join(texts[:10]) + (', ...' if len(texts) > 10 else '')


def _shares(classes: list[str], labels: np.ndarray, raw: np.ndarray, seen: Seen) -> str:
    """How many of the pixels each class has, in words."""
    pixels: Counter = Counter()
    for value, label in zip(raw.tolist(), labels.tolist(), strict=True):
        pixels[label] += seen.pixels[value]
    total = sum(pixels.values())
    names = {number: name for number, name in enumerate(classes)} | {IGNORED: 'ignored'}
    shares = [f'{names[n]} {pixels[n] / total:.1%}' for n in sorted(pixels) if n in names]
    return ', '.join(shares[:20]) + (', ...' if len(shares) > 20 else '')
