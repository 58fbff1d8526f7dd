"""The classes of a task, stated once: `classes` and `mask_values` at the top of a config.

    classes = ('background', 'road', 'tree')
    mask_values = (0, 1, 2)    # or (0, 255) for two classes; what is not named is not learnt

Names belong to each data set, their number to each head, and the values of masks to the pipelines
that load them: a dozen places of a config that have to agree. Both are optional; without them a
config is as it says.
"""

from collections.abc import Iterator
from typing import Any

from mmengine.config import Config, ConfigDict

from adpe_mm.errors import UserError

LOADERS = 'train_dataloader', 'val_dataloader', 'test_dataloader'


def share_classes(cfg: Config) -> None:
    """Write `classes` and `mask_values` of a config to where they belong.

    - ``classes``: ``metainfo.classes`` of each data set, and each ``num_classes`` of the model.
    - ``mask_values``: for each class, in their order, its value in the masks of segmentation: see
      `LoadAnnotations`.

    Args:
        cfg: Config of a run, which is changed.

    Raises:
        UserError: If one of them is no list, or they have not the same length.
    """
    names, values = cfg.get('classes'), cfg.get('mask_values')
    if isinstance(names, str):
        raise UserError(
            f"classes='{names}' is a text and no list of names: put a comma behind the name of a "
            f"single class, classes=('{names}',)"
        )
    if isinstance(names, list | tuple):  # a config may have a variable of this name
        _share_names(cfg, tuple(names))
    if values is None:
        return
    if not isinstance(values, list | tuple) or not all(isinstance(v, int) for v in values):
        raise UserError(
            f'mask_values={values} is no list of numbers: name the value of each class in the '
            'masks, as in mask_values=(0, 255)'
        )
    if len(set(values)) < len(values):
        raise UserError(f'mask_values={values} names a value twice: each class needs its own')
    for dataset in data_sets(cfg):
        known = dataset.get('metainfo', {}).get('classes')
        if known is not None and len(known) != len(values):
            raise UserError(
                f'mask_values={values} has {len(values)} values for {len(known)} classes '
                f'({", ".join(known)}): name the value of each class, in their order'
            )
        dataset.reduce_zero_label = False
    for step in dicts([*(d.get('pipeline') for d in data_sets(cfg)), cfg.get('tta_pipeline')]):
        if str(step.get('type')).rpartition('.')[2] == 'LoadAnnotations':
            step.pop('reduce_zero_label', None)
            step.update(type='adpe_mm.LoadAnnotations', values=tuple(values))


def data_sets(cfg: Config) -> Iterator[ConfigDict]:
    """All data sets of a config that are no wrappers of others."""
    for loader in LOADERS:
        for _, dataset in within(cfg, loader):
            yield dataset


def within(cfg: Config, loader: str) -> Iterator[tuple[str, ConfigDict]]:
    """The data sets of one loader, looked for within the wrappers of mmengine and others.

    Args:
        cfg: Config.
        loader: One of `LOADERS`; there is no data set if it is None or missing.

    Yields:
        Where it stands, as ``--cfg-options`` names it, such as 'train_dataloader.dataset'; and its
        config.
    """
    dataset = (cfg.get(loader) or {}).get('dataset')
    if isinstance(dataset, dict):
        yield from _unwrap(dataset, f'{loader}.dataset')


def _unwrap(dataset: ConfigDict, setting: str) -> Iterator[tuple[str, ConfigDict]]:
    inner = [('dataset', dataset.get('dataset'))]
    inner += [(f'datasets.{n}', part) for n, part in enumerate(dataset.get('datasets') or [])]
    inner = [(name, part) for name, part in inner if isinstance(part, dict)]
    if not inner:
        yield setting, dataset
    for name, part in inner:
        yield from _unwrap(part, f'{setting}.{name}')


def _share_names(cfg: Config, names: tuple[str, ...]) -> None:
    for dataset in data_sets(cfg):
        metainfo = dict(dataset.get('metainfo') or {}, classes=names)
        if len(metainfo.get('palette') or names) != len(names):
            del metainfo['palette']  # of other classes; the libraries draw one
        dataset.metainfo = metainfo
    for part in dicts(cfg.get('model')):
        if 'num_classes' in part:
            part.num_classes = len(names)


def dicts(node: Any) -> Iterator[dict]:
    """All dicts of a config, however deep."""
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, list | tuple):
        for part in node:
            yield from dicts(part)
