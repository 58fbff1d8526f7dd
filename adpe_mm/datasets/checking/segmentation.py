"""Images, masks, and the classes that their values stand for."""

from collections.abc import Sequence

from mmengine.config import Config

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
from .masks import check_masks
from .pairing import check_pairs
from .sources import Source


def check_segmentation(cfg: Config, findings: Findings, every: bool) -> None:
    """Compare images, masks, and names and numbers of classes with each other.

    Args:
        cfg: Config of the run.
        findings: Gets what is found.
        every: Look at each image and mask.
    """
    trained: list[str] = []
    names: Sequence[str] | None = None  # of the classes of training
    for loader, source in distinct_sources(cfg):
        dataset = make_dataset(source, cfg.default_scope, findings)
        if dataset is None:
            continue
        classes = dataset.metainfo.get('classes')
        before = len(findings.problems)
        _check_classes(cfg, source, classes, findings)
        if not check_pairs(source, dataset, findings):
            continue
        samples = load_samples(source, dataset, findings)
        if samples is None:
            continue
        paths = [sample['img_path'] for sample in samples]
        text = check_images(source, paths, every, allowed_fraction(cfg, loader), findings)
        findings.facts.append(f'{source.setting}: {len(samples)} images, {text}')
        if len(findings.problems) == before:
            check_masks(source, dataset, samples, every, findings)
        if loader == 'train_dataloader':
            trained += paths
            names = names or classes
            continue
        check_overlap(cfg, trained, loader, source, paths, findings)
        if names and classes and list(names) != list(classes):
            findings.problems.append(
                f'{source.setting} has the classes {some(classes)}, but training '
                f'{some(names)}: give both the same, classes=... at the top of the config'
            )
    check_batches(cfg, len(trained), findings)


def _check_classes(
    cfg: Config, source: Source, classes: Sequence[str] | None, findings: Findings
) -> None:
    """Names of the classes, and their number in each head."""
    if classes is None:
        findings.problems.append(
            f'{source.setting} has no names of classes: name them at the top of the config, as in '
            "classes=('road', 'tree')"
        )
        return
    number = len(classes)
    if number == 1:
        findings.problems.append(
            f'{source.setting} has the one class {classes[0]!r}, which every pixel would be: name '
            f"what is around it too, classes=('background', '{classes[0]}') with "
            'mask_values=(0, 1), or (0, 255), the values of both in the masks'
        )
        return
    heads = [part for part in dicts(cfg.model) if 'num_classes' in part]
    wrong = [head for head in heads if head.num_classes != number]
    if wrong:
        text = (
            f'{source.setting} has {number} classes ({some(classes)}), but num_classes='
            f'{wrong[0].num_classes} in {len(wrong)} of {len(heads)} heads of the model: '
        )
        if number <= 20:
            text += f'state the classes once, --cfg-options classes="{list(classes)}", or '
        findings.problems.append(
            f'{text}set '
            + ' '.join(f'{name}.num_classes={number}' for name in _names_of_heads(cfg))
        )


def _names_of_heads(cfg: Config) -> list[str]:
    """Where the heads stand, as ``--cfg-options`` names them."""
    names = []
    for key in ('decode_head', 'auxiliary_head'):
        head = cfg.model.get(key)
        if isinstance(head, list | tuple):
            names += [f'model.{key}.{number}' for number in range(len(head))]
        elif head:
            names.append(f'model.{key}')
    return names
