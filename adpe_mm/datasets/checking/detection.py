"""Files of COCO's form, their classes, and what the network and the evaluation expect of them."""

from collections import Counter

from mmengine.config import Config

from adpe_mm.errors import UserError

from ..coco_json import CocoJson, class_names
from ..coco_reading import read_coco
from .coco_objects import check_boxes, check_files
from .coco_split import Split, ours, place
from .detectors import check_evaluator, check_heads, check_masks
from .files import allowed_fraction, check_images, check_overlap, distinct_sources, some
from .findings import Findings
from .sources import LOADERS, Source


def check_detection(cfg: Config, findings: Findings, every: bool) -> None:
    """Compare files, names, boxes, masks and images with each other, the heads and the evaluators.

    Args:
        cfg: Config of the run.
        findings: Gets what is found.
        every: Look at each image.
    """
    files: dict[str, CocoJson | None] = {}
    splits: list[Split] = []
    for loader, source in distinct_sources(cfg):
        split = _read(loader, source, files, findings)
        if split is None:
            continue
        named = _check_names(split, findings)
        folder = place(source.dataset, (source.dataset.get('data_prefix') or {}).get('img', ''))
        split.paths = check_files(split.json, folder, source.setting, every, findings)
        broken = allowed_fraction(cfg, loader)
        sizes = check_images(source, split.paths, every, broken, findings)
        findings.facts.append(f'{source.setting}: {_counts(split)}, {sizes}')
        if split.training:
            check_masks(cfg, split, findings)
        if named and split.training:
            _check_filter(split, findings)
        if named:
            splits.append(split)
    trained = [split for split in splits if split.training]
    paths = [path for split in trained for path in split.paths]
    for split in splits:
        if trained and not split.training:
            _compare(trained, split, findings)
            check_overlap(cfg, paths, split.loader, split.source, split.paths, findings)
    if splits:
        check_heads(cfg, (trained or splits)[0], findings)
    for loader, evaluator in zip(LOADERS[1:], ('val_evaluator', 'test_evaluator'), strict=True):
        check_evaluator(cfg, loader, evaluator, splits, files, findings)


def _read(
    loader: str, source: Source, files: dict[str, CocoJson | None], findings: Findings
) -> Split | None:
    """A data set; None, and what is wrong, if it cannot be used."""
    if source.remote:
        findings.facts.append(f'{source.setting} is not checked: its files are not on this machine')
        return None
    if source.type != 'CocoDataset':
        findings.facts.append(f'{source.setting} is not checked: {source.type} is not of COCO')
        return None
    path = place(source.dataset, source.dataset.get('ann_file', ''))
    json = _file(path, files, findings)
    classes = (source.dataset.get('metainfo') or {}).get('classes')
    try:
        if classes is None:
            from mmdet.datasets import CocoDataset

            classes = CocoDataset.METAINFO['classes']
        classes = class_names(classes)
    except UserError as error:
        findings.problems.append(f'{source.setting}.metainfo.{error}')
        return None
    return None if json is None or json.problems else Split(loader, source, json, classes)


def _file(path: str, files: dict[str, CocoJson | None], findings: Findings) -> CocoJson | None:
    """A file, which is read once and said once what is wrong with."""
    if path not in files:
        try:
            files[path] = json = read_coco(path)
        except UserError as error:
            findings.problems.append(str(error))
            files[path] = None
        else:
            findings.warnings += json.notes
            findings.problems += json.problems
            if not json.problems:
                check_boxes(json, findings)
    return files[path]


def _check_names(split: Split, findings: Findings) -> bool:
    """Names of the config against those of the file; whether they can be told apart."""
    problem = split.json.naming_problem(split.classes)
    if problem:
        if problem not in findings.problems:
            findings.problems.append(problem)
        return False
    order = [name for name in split.json.names if name in split.classes]
    if not ours(split.source.dataset) and order != list(split.classes):
        findings.problems.append(
            f"{split.source.setting}.type='{split.source.type}' labels the objects in the order of "
            f'the categories of {split.json.path} ({some(order)}), and not of the classes of the '
            f"config ({some(split.classes)}): set type='adpe_mm.CocoDataset'"
        )
    counts = split.objects
    empty = [name for name in split.classes if not counts[name]]
    if empty and split.json.annotations:
        findings.warnings.append(f'{split.json.path} has no object of {some(empty)}')
    spare = [name for name in counts if name not in split.classes]
    if spare:
        findings.warnings.append(
            f'{sum(counts[name] for name in spare)} objects of {split.json.path} are left out, as '
            f'the classes of {split.source.setting} do not name their categories: {some(spare)}'
        )
    return True


def _counts(split: Split) -> str:
    """Images, objects, classes and masks in words."""
    counts = split.objects
    shown = [f'{name} {counts[name]}' for name in split.classes if counts[name]]
    shown = shown[:20] + (['...'] if len(shown) > 20 else [])
    kinds = Counter(
        dict(list='polygons', dict='run lengths').get(
            type(a.get('segmentation')).__name__, 'no mask'
        )
        for a in split.json.annotations
    )
    crowds = sum(a['iscrowd'] for a in split.json.annotations)
    masks = ', '.join(f'{number} with {kind}' for kind, number in kinds.items())
    return (
        f'{len(split.json.images)} images, {len(split.json.annotations)} objects ({masks}, '
        f'{crowds} crowds) of {len(split.classes)} classes ({", ".join(shown)})'
    )


def _check_filter(split: Split, findings: Findings) -> None:
    """Images that the training leaves out."""
    settings = split.source.dataset.get('filter_cfg') or {}
    images, smallest = split.json.images, settings.get('min_size', 0)
    small = sum(min(image['width'], image['height']) < smallest for image in images)
    ids = {c['id'] for c in split.json.categories if c['name'] in split.classes}
    used = {a['image_id'] for a in split.json.annotations if a['category_id'] in ids}
    empty = len(images) - len(used)
    setting = f'{split.source.setting}.filter_cfg'
    for number, what, key, value in (
        (small, f'narrower than {smallest} px', 'min_size', 1),
        (empty, 'without an object of the classes', 'filter_empty_gt', False),
    ):
        if number and settings.get(key):
            text = (
                f'{number} of {len(images)} images of {split.json.path} are {what}, and left out '
                f'of the training: set {setting}.{key}={value} to keep them'
            )
            (findings.problems if number == len(images) else findings.warnings).append(text)


def _compare(trained: list[Split], split: Split, findings: Findings) -> None:
    """Classes of validation and test against those of the training."""
    first = trained[0]
    if split.classes != first.classes:
        findings.problems.append(
            f'the classes of {split.source.setting} ({some(split.classes)}) are not those of '
            f'{first.source.setting} ({some(first.classes)}): name the same, in one order, or '
            'state them once as classes=(...) at the top of the config'
        )
        return
    learnt = sum((other.objects for other in trained), Counter())
    counts = split.objects
    new = [name for name in counts if not learnt[name]]
    if new:
        findings.warnings.append(
            f'{sum(counts[name] for name in new)} objects of {split.json.path} are of {some(new)}, '
            f'of which {first.json.path} has none: they cannot be learnt'
        )
