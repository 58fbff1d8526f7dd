"""What all tasks look at: whether data sets can be made and their images be opened."""

import os
from collections.abc import Iterable, Sequence
from functools import cache
from random import Random
from typing import TypeVar

from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS, DefaultScope
from PIL import Image

from adpe_mm.errors import UserError

from ..classes import dicts
from ..decoding import orientation_of
from ..reading import read_image, why_unreadable
from .findings import Findings
from .sources import LOADERS, Source, sources, type_of

HEADERS = 200  # images of a data set whose headers are read, unless all are
Item = TypeVar('Item')
Size = tuple[int, int]


def sample(items: Sequence[Item], every: bool, count: int = HEADERS) -> Sequence[Item]:
    """Some of many, drawn alike in each run; not at even distances, as classes may alternate."""
    if every or len(items) <= count:
        return items
    return [items[place] for place in sorted(Random(0).sample(range(len(items)), count))]


def distinct_sources(cfg: Config) -> list[tuple[str, Source]]:
    """Loader and data set of all that a config names, but one of tests that validates too."""
    found: list[tuple[str, Source]] = []
    tested: list[dict] = []
    for loader in LOADERS:
        for source in sources(cfg, loader):
            files = _files(source)
            if loader == 'train_dataloader' or files not in tested:
                found.append((loader, source))
            if loader != 'train_dataloader':
                tested.append(files)
    return found


def _files(source: Source) -> dict:
    ignored = ('pipeline', 'test_mode', 'lazy_init')
    return {key: value for key, value in source.dataset.items() if key not in ignored}


def make_dataset(source: Source, scope: str, findings: Findings) -> BaseDataset | None:
    """A data set without its samples, which `load_samples` finds.

    Args:
        source: Where the config names it.
        scope: Library of the task.
        findings: Gets a problem if it cannot be made, or a fact if it is not looked at.
    """
    if source.remote:
        findings.facts.append(f'{source.setting} is not checked: its files are not on this machine')
        return None
    names = (source.dataset.get('metainfo') or {}).get('classes')
    if isinstance(names, str) and not os.path.isfile(names):  # mmengine reads a file
        findings.problems.append(
            f"the classes of {source.setting} are the text '{names}' and no list of names: put a "
            f"comma behind the name of a single class, classes=('{names}',)"
        )
        return None
    # By the reader, if it is told of bands, `Images` knows which files are images.
    readers = [step for step in source.dataset.get('pipeline') or () if step.get('channels')]
    settings = dict(source.dataset, pipeline=readers, lazy_init=True, serialize_data=False)
    kind = source.dataset.get('type')
    with DefaultScope.overwrite_default_scope(scope):
        try:
            if isinstance(kind, str):
                with DATASETS.switch_scope_and_registry(scope) as registry:
                    kind = registry.get(kind)
            if kind is None:
                findings.problems.append(
                    f"{source.setting}.type='{source.type}' is no data set that is known: "
                    'correct the name, or name its module in custom_imports'
                )
                return None
            if not issubclass(kind, BaseDataset):
                findings.facts.append(
                    f'{source.setting} is not checked: {source.type} is no data set of OpenMMLab'
                )
                return None
            return DATASETS.build(settings)
        except Exception as error:  # of whatever the config has wrong
            findings.problems.append(_why_not_made(source, error))
            return None


def load_samples(source: Source, dataset: BaseDataset, findings: Findings) -> list[dict] | None:
    """The samples of a data set; None, and a problem, if they cannot be found."""
    try:
        dataset.full_init()
    except Exception as error:  # of whatever is wrong with the files
        findings.problems.append(_why_not_made(source, error))
        return None
    if not dataset.data_list:
        findings.problems.append(
            f'{source.setting} has no image: check its data_root, data_prefix and ann_file'
        )
        return None
    return dataset.data_list


def _why_not_made(source: Source, error: Exception) -> str:
    """The sentence for a data set that raises an error as it is made."""
    root: BaseException | None = error
    while root is not None:  # the registry wraps what a class raises
        if isinstance(root, UserError):
            return str(root)
        root = root.__cause__ or root.__context__
    settings = source.dataset
    prefix = settings.get('data_prefix') or settings.get('split') or ''
    places = dict(prefix) if isinstance(prefix, dict) else {'': prefix}
    names = {f'data_prefix.{key}'.rstrip('.'): place for key, place in places.items()}
    names = {'data_root': '', **names, 'ann_file': settings.get('ann_file') or ''}
    several = not isinstance(settings.get('data_root') or '', str)
    for name, place in ({} if several else names).items():
        path = os.path.join(settings.get('data_root') or '', place or '').rstrip('/')
        if path and not os.path.exists(os.path.expanduser(path)):
            return f"there is no '{path}': set {source.setting}.{name}"
    colours = (settings.get('metainfo') or {}).get('palette')
    if colours and 'palette' in str(error):
        return (
            f'{source.setting}.metainfo has {len(colours)} colours for '
            f'{len(settings.metainfo.get("classes") or ())} classes: leave palette out, or name as '
            'many'
        )
    if 'subset of classes' in str(error):  # of mmseg's get_label_map
        return (
            f'{source.setting} names classes that {source.type} does not have: set its type, '
            "type='BaseSegDataset' for classes of your own"
        )
    return f'{source.setting} cannot be used: {type(error).__name__}: {error}'


def image_size(path: str) -> Size | None:
    """(width, height) in pixels of an image as viewers show it, by its header; None if unknown."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            return (height, width) if orientation_of(image) >= 5 else (width, height)
    except Exception:  # whatever Pillow raises; the caller finds out why
        return None


def _bands(source: Source) -> int | None:
    """How many bands the readers of a data set are told to read; None for RGB."""
    steps = source.dataset.get('pipeline') or ()
    return next((step['channels'] for step in steps if step.get('channels')), None)


def check_images(
    source: Source, paths: Sequence[str], every: bool, allowed: float, findings: Findings
) -> str:
    """Open images, or some of them.

    Args:
        source: Their data set.
        paths: Of all its images.
        every: Decode all of them, not the headers of some.
        allowed: The fraction that may be broken.
        findings: Gets what is broken.

    Returns:
        Their sizes, in words.
    """
    chosen = sample(paths, every)
    sizes: set[Size] = set()
    broken, channels = [], _bands(source)
    for path in chosen:
        size = image_size(path) if channels is None else None  # no header tells the bands
        reason = why_unreadable(path, channels) if every or size is None else None
        if reason is not None:
            broken.append(f'{path} ({reason})')
        elif size is None and channels is not None:
            height, width = read_image(path, channels=channels).shape[:2]
            size = width, height
        if size is not None:
            sizes.add(size)
    if broken:
        text = (
            f'{len(broken)} of {len(chosen)} images of {source.setting} cannot be read, the first '
            f'is {broken[0]}: repair them, or take them out of the data set'
        )
        enough = len(broken) <= allowed * len(chosen)
        (findings.warnings if enough else findings.problems).append(text)
    smallest, largest = (pick(sizes, key=_area, default=None) for pick in (min, max))
    if smallest is None:
        return 'of unknown size'
    text = f'{largest[0]} x {largest[1]} px'
    return text if len(sizes) == 1 else f'{smallest[0]} x {smallest[1]} to {text}'


def _area(size: Size) -> int:
    return size[0] * size[1]


def allowed_fraction(cfg: Config, loader: str) -> float:
    """The fraction of a loader's images that may be broken: see `UnreadableImagesHook`."""
    hook = (cfg.get('default_hooks') or {}).get('unreadable_images') or {}
    return hook.get('max_fraction', 0) if loader == 'train_dataloader' else 0


def check_overlap(
    cfg: Config, trained: Iterable[str], loader: str, source: Source, paths: Iterable[str],
    findings: Findings,
) -> None:  # fmt: skip
    """Warn of images that are trained on and tested with.

    Args:
        cfg: Config of the run.
        trained: Paths of the images of the training.
        loader: That of `source`.
        source: A data set of validation or test.
        paths: Its images.
        findings: Gets the warning.
    """
    if any(type_of(part) == 'KFoldDataset' for part in dicts(cfg[loader].dataset)):
        return  # folds have no image in common
    real_folder = cache(os.path.realpath)

    def real(path: str) -> str:
        folder, name = os.path.split(path)
        return os.path.join(real_folder(folder), name)

    common = set(map(real, trained)) & set(map(real, paths))
    if common:
        findings.warnings.append(
            f'{len(common)} images of {source.setting} are trained on too, such as '
            f"'{min(common)}': its results say nothing about new images"
        )


def some(names: Iterable[str], count: int = 5) -> str:
    """Names in quotes, of many only the first."""
    names = list(names)
    text = ', '.join(f"'{name}'" for name in names[:count])
    return text if len(names) <= count else f'{text} and {len(names) - count} more'
