"""What heads, loaders of masks and evaluators expect of files of COCO's form."""

import os

from mmengine.config import Config, ConfigDict

from ..classes import dicts
from ..coco_json import BOXES_ONLY, CocoJson
from .coco_split import Split, ours, place
from .files import some
from .findings import Findings
from .sources import sources, type_of


def check_heads(cfg: Config, split: Split, findings: Findings) -> None:
    """Numbers of classes of all heads."""
    wanted = len(split.classes)
    wrong = [part for part in dicts(cfg.model) if part.get('num_classes') not in (None, wanted)]
    if wrong:
        numbers = sorted({part['num_classes'] for part in wrong})
        heads = dict.fromkeys(type_of(part) for part in wrong)
        findings.problems.append(
            f'{split.source.setting} has {wanted} classes ({some(split.classes)}), but '
            f'num_classes={", ".join(map(str, numbers))} in {", ".join(heads)}: state '
            'classes=(...) at the top of the config, which sets both, or set num_classes='
            f'{wanted} in each head'
        )


def check_masks(cfg: Config, split: Split, findings: Findings) -> None:
    """Masks that the network learns, against those that there are."""
    steps = [s for s in dicts(split.source.dataset.get('pipeline')) if s.get('with_mask')]
    head, setting = _mask_head(cfg), split.source.setting
    if head and not steps:
        findings.problems.append(
            f'the network has a mask head, and {setting}.pipeline loads no masks: set '
            f'with_mask=True in it, or take {BOXES_ONLY}'
        )
    objects = [a for a in split.json.annotations if not a['iscrowd']]
    lacking = split.json.without_mask
    if not steps or not objects:
        return
    if lacking == len(objects):
        findings.problems.append(
            f'no object of {split.json.path} has a mask ("segmentation"), which {setting} loads: '
            f'take {BOXES_ONLY}'
        )
        return
    loads = all(type_of(step) == 'LoadInstances' for step in steps)
    if lacking and loads and (not head or ours(head)):
        findings.warnings.append(
            f'{lacking} of {len(objects)} objects of {split.json.path} have no mask: they train '
            'the boxes alone'
        )
    elif lacking:
        findings.problems.append(
            f'{lacking} of {len(objects)} objects of {split.json.path} have no mask: load them '
            "with type='adpe_mm.LoadInstances', and set model.roi_head.mask_head.type="
            f"'adpe_mm.FCNMaskHead', or take {BOXES_ONLY}"
        )
    packed = sum(isinstance(a.get('segmentation'), dict) for a in objects)
    if packed and not loads and any(step.get('poly2mask') is False for step in steps):
        findings.problems.append(
            f'{packed} of {len(objects)} masks of {split.json.path} are run lengths, which '
            f"poly2mask=False makes background of: load them with type='adpe_mm.LoadInstances'"
        )


def check_evaluator(
    cfg: Config, loader: str, setting: str, splits: list[Split],
    files: dict[str, CocoJson | None], findings: Findings,
) -> None:  # fmt: skip
    """COCO's metric against the data set that it evaluates."""
    tested = sources(cfg, loader)
    evaluators = cfg.get(setting) or []
    evaluators = [evaluators] if isinstance(evaluators, dict) else evaluators
    for evaluator in evaluators:
        path = evaluator.get('ann_file')
        if type_of(evaluator) != 'CocoMetric' or len(tested) != 1 or not path:
            continue
        own = place(tested[0].dataset, tested[0].dataset.get('ann_file', ''))
        if os.path.realpath(path) != os.path.realpath(own):
            findings.problems.append(
                f"{setting}.ann_file='{path}' is not the file of {tested[0].setting}: set it to "
                f"'{own}'"
            )
            continue
        json = files.get(own)
        if json is None or json.problems:
            continue
        metrics = evaluator.get('metric', 'bbox')
        if 'segm' in ([metrics] if isinstance(metrics, str) else metrics):
            _check_segm(cfg, setting, json, findings)
        classes = next((s.classes for s in splits if s.json is json), ())
        ordered = [name for name in json.names if name in classes]
        ids = [c['id'] for c in json.categories if c['name'] in classes]
        if not ours(evaluator) and (ordered != list(classes) or ids != sorted(ids)):
            findings.problems.append(
                f'{setting} takes the labels in the order of the categories of {json.path}, and '
                "not of the classes of the config: set type='adpe_mm.CocoMetric'"
            )


def _check_segm(cfg: Config, setting: str, json: CocoJson, findings: Findings) -> None:
    objects = sum(not a['iscrowd'] for a in json.annotations)
    lacking = json.without_mask
    text = None
    if not _mask_head(cfg) and (cfg.model.get('roi_head') or cfg.model.get('bbox_head')):
        text = f"{setting}.metric has 'segm', and the network has no mask head"
    elif objects and lacking == objects:
        text = f"{setting}.metric has 'segm', and no object of {json.path} has a mask"
    elif lacking:
        text = (
            f'{lacking} of {objects} objects of {json.path} have no mask: AP of masks leaves out '
            'what is found in their boxes'
        )
        if text not in findings.warnings:
            findings.warnings.append(text)
        return
    if text:
        findings.problems.append(f"{text}: set metric='bbox', or take {BOXES_ONLY}")


def _mask_head(cfg: Config) -> ConfigDict | None:
    return (cfg.model.get('roi_head') or {}).get('mask_head') or cfg.model.get('mask_head')
