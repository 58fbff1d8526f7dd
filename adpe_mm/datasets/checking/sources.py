"""The data sets that a config names, and which part of it does."""

from collections.abc import Iterator
from dataclasses import dataclass

from mmengine.config import Config, ConfigDict

LOADERS = 'train_dataloader', 'val_dataloader', 'test_dataloader'
# Data sets that hold one data set, or several, and add no files of their own.
WRAPPERS = {
    'ConcatDataset',
    'RepeatDataset',
    'ClassBalancedDataset',
    'MultiImageMixDataset',
    'KFoldDataset',
}


@dataclass
class Source:
    """A data set of a config that is no wrapper of others.

    Args:
        setting: Where it stands, as ``--cfg-options`` names it: 'train_dataloader.dataset'.
        dataset: Its config.
    """

    setting: str
    dataset: ConfigDict

    @property
    def type(self) -> str:
        """Name of the class, without a scope."""
        return type_of(self.dataset)

    @property
    def remote(self) -> bool:
        """Whether its files are not on this machine's disk."""
        backend = self.dataset.get('backend_args') or self.dataset.get('file_client_args') or {}
        if backend.get('backend', 'local') not in ('local', 'disk', 'LocalBackend'):
            return True
        return any(
            '://' in str(self.dataset.get(name) or '')
            for name in ('data_root', 'ann_file', 'img_prefix')
        )


def type_of(config: ConfigDict) -> str:
    """Name of the class that a config builds, without a scope."""
    kind = config.get('type', '')
    return (kind if isinstance(kind, str) else kind.__name__).rpartition('.')[2]


def sources(cfg: Config, loader: str) -> list[Source]:
    """The data sets of one of `LOADERS`, looked for within wrappers; none without such a loader."""
    dataset = (cfg.get(loader) or {}).get('dataset')
    return list(_within(dataset, f'{loader}.dataset')) if dataset else []


def _within(dataset: ConfigDict, setting: str) -> Iterator[Source]:
    if type_of(dataset) not in WRAPPERS:
        yield Source(setting, dataset)
        return
    if dataset.get('dataset'):
        yield from _within(dataset.dataset, f'{setting}.dataset')
    for number, part in enumerate(dataset.get('datasets') or []):
        yield from _within(part, f'{setting}.datasets.{number}')
