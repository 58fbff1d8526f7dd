"""The data sets that a config names, and which part of it does."""

from dataclasses import dataclass

from mmengine.config import Config, ConfigDict

from ..classes import LOADERS, within

__all__ = ['LOADERS', 'Source', 'sources', 'type_of']


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
        prefix = self.dataset.get('data_prefix') or ''
        places = list(prefix.values()) if isinstance(prefix, dict) else [prefix]
        places += [self.dataset.get(name) for name in ('data_root', 'ann_file')]
        return any('://' in str(place) for place in places)


def type_of(config: ConfigDict) -> str:
    """Name of the class that a config builds, without a scope."""
    kind = config.get('type', '')
    return (kind if isinstance(kind, str) else kind.__name__).rpartition('.')[2]


def sources(cfg: Config, loader: str) -> list[Source]:
    """The data sets of one of `LOADERS`, looked for within wrappers; none without such a loader."""
    return [Source(setting, dataset) for setting, dataset in within(cfg, loader)]
