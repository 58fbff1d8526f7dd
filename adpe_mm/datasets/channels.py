"""One setting for images of any number of bands: ``model.backbone.in_channels``."""

from collections.abc import Callable, Iterator

import numpy as np
from mmengine.config import Config, ConfigDict
from PIL import Image

from adpe_mm.errors import UserError

LOADERS = 'train_dataloader', 'val_dataloader', 'test_dataloader'
READERS = 'LoadImageFromFile', 'MultiCrop'
# Transforms of OpenMMLab that compute with three colours, or fill in three values.
OF_COLOUR = {
    'Albu', 'Albumentations', 'AutoAugment', 'AutoContrast', 'Brightness', 'CLAHE', 'Color',
    'ColorJitter', 'ColorTransform', 'Contrast', 'CutOut', 'Cutout', 'Equalize', 'GaussianBlur',
    'Invert', 'Lighting', 'PhotoMetricDistortion', 'Posterize', 'RandAugment', 'RandomCutOut',
    'RandomErasing', 'RandomGrayscale', 'RandomSolarize', 'RGB2Gray', 'Sharpness', 'Solarize',
    'SolarizeAdd', 'TrivialAugmentWide', 'YOLOXHSVRandomAug',
}  # fmt: skip


def fit_channels(cfg: Config) -> None:
    """Make all of a config take images of as many bands as ``model.backbone.in_channels`` says.

    - The readers of all loaders, `LoadImageFromFile` and `MultiCrop`, get this number, and so read
      bands instead of RGB.
    - Transforms that compute with colours are left out, which the log says: see `LeftOut`.
    - Pillow resizes RGB only: OpenCV takes its place.
    - The preprocessor of mmseg or mmdet, which knows one or three channels, becomes
      `BandsPreprocessor`.

    A config of RGB stays as it is. To do it twice changes nothing.

    Args:
        cfg: Config of pretraining or of a task; it is changed.

    Raises:
        ValueError: If a reader states another number of bands, or is none of this package.
    """
    model = cfg.get('model') or {}
    model = model.get('module', model)  # of test-time augmentation
    channels = (model.get('backbone') or {}).get('in_channels', 3)
    for where in (*LOADERS, 'tta_pipeline'):
        for steps in _pipelines(cfg.get(where)):
            steps[:] = [_fitted(step, channels, where) for step in steps]
    preprocessor = model.get('data_preprocessor') or {}
    kind = preprocessor.get('type', 'adpe_mm.')
    if channels != 3 and not kind.startswith('adpe_mm.') and 'ClsData' not in kind:
        preprocessor.update(type='adpe_mm.BandsPreprocessor', base=kind)


def stated_channels(in_channels: int) -> int | None:
    """What readers are told of a network's bands: None, which is RGB, for three."""
    return None if in_channels == 3 else in_channels


def by_bands(function: Callable[[Image.Image], Image.Image], pixels: np.ndarray) -> np.ndarray:
    """What a function of Pillow's images makes of pixels: of RGB at once, else of each band.

    Args:
        function: Of RGB and of grey images.
        pixels: (H, W, bands) uint8.

    Returns:
        (h, w, bands) uint8.
    """
    if pixels.shape[2] == 3:
        return np.array(function(Image.fromarray(pixels)))
    bands = (Image.fromarray(np.ascontiguousarray(band)) for band in np.moveaxis(pixels, 2, 0))
    return np.stack([np.array(function(band)) for band in bands], axis=2)


def first_pipeline(dataset: dict) -> list[dict]:
    """The transforms of a data set, or of the first one that it wraps (`ConcatDataset`)."""
    return next(_pipelines(dataset), [])


def _pipelines(node: object) -> Iterator[list]:
    """All lists of transforms within a part of a config."""
    if isinstance(node, list | tuple):
        if (
            isinstance(node, list)
            and node
            and all(isinstance(n, dict) and 'type' in n for n in node)
        ):
            yield node
        for part in node:
            yield from _pipelines(part)
    elif isinstance(node, dict):
        for part in node.values():
            yield from _pipelines(part)


def _fitted(step: dict, channels: int, where: str) -> dict:
    """A transform for images of so many bands."""
    name = str(step['type']).split('.')[-1]
    if name in READERS:
        if (
            channels != 3
            and name == 'LoadImageFromFile'
            and not step['type'].startswith('adpe_mm.')
        ):
            raise UserError(
                f'{step["type"]} of {where} reads RGB, and model.backbone.in_channels is '
                f'{channels}: take adpe_mm.{name}'
            )
        stated = step.get('channels')
        if stated not in (None, channels):
            raise UserError(
                f'{step["type"]} of {where} has channels={stated}, and model.backbone.in_channels '
                f'is {channels}: state in_channels alone'
            )
        if channels != 3:
            step['channels'] = channels
    if channels == 3:
        return step
    if name in OF_COLOUR:
        return ConfigDict(type='adpe_mm.LeftOut', step=name)
    if step.get('backend') == 'pillow' and name != 'MultiCrop':
        step['backend'] = 'cv2'
    return step
