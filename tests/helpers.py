"""Tiny networks, turned photographs and a mark that several tests use."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from torch.torch_version import TorchVersion
from torch.utils._python_dispatch import TorchDispatchMode

from adpe_mm.evaluation.traffic import PRODUCTS
from adpe_mm.models import MAEPlus

needs_imagined_gpu = pytest.mark.skipif(
    torch.__version__ < TorchVersion('2.10') and not torch.cuda.is_available(),
    reason='torch before 2.10 aborts where an imagined tensor of a GPU needs a gradient',
)

# position, mode of each of the six variants of the paper.
VARIANTS = [
    ('ape', None),
    ('ape', 'embedding'),
    ('ape', 'coordinate'),
    ('rpe', None),
    ('rpe', 'embedding'),
    ('rpe', 'coordinate'),
]

# Which sides of the scene a file's first row and first column are, as EXIF defines orientations.
FIRST_ROW_AND_COLUMN = {
    1: ('top', 'left'),
    2: ('top', 'right'),
    3: ('bottom', 'right'),
    4: ('bottom', 'left'),
    5: ('left', 'top'),
    6: ('right', 'top'),
    7: ('right', 'bottom'),
    8: ('left', 'bottom'),
}


def turned(upright: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels as a camera held in one of eight ways stores them."""
    row, column = FIRST_ROW_AND_COLUMN[orientation]
    pixels = upright[::-1] if 'bottom' in (row, column) else upright
    pixels = pixels[:, ::-1] if 'right' in (row, column) else pixels
    pixels = pixels if row in ('top', 'bottom') else pixels.swapaxes(0, 1)
    return np.ascontiguousarray(pixels)


def save_turned(upright: Image.Image, path: Path, orientation: int) -> None:
    """Write an image as such a camera would, with its EXIF entry."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    options = dict(lossless=True) if path.suffix == '.webp' else dict(quality=98)
    Image.fromarray(turned(np.asarray(upright), orientation)).save(path, exif=exif, **options)


def tiny_config(position='rpe', mode='coordinate', img_size=(16, 24), **adversary) -> dict:
    """Config of a pretraining network of 4 x 6 patches that runs in milliseconds."""
    config = dict(
        type='adpe_mm.MAEPlus',
        backbone=dict(
            type='adpe_mm.AdPEPretrainViT',
            arch=dict(embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=48),
            img_size=img_size,
            patch_size=4,
            position=position,
            rpe_lookup='interpolate' if mode == 'coordinate' else 'bucket',
        ),
        neck=dict(type='adpe_mm.AdPEDecoder', embed_dims=16, num_layers=1, num_heads=2),
    )
    if mode is not None:
        config['adversary'] = dict(type='adpe_mm.AdversarialPosition', mode=mode, **adversary)
    return config


def tiny_model(*args, **kwargs) -> MAEPlus:
    """The initialised network of `tiny_config`."""
    config = tiny_config(*args, **kwargs)
    config.pop('type')
    model = MAEPlus(**config)
    model.init_weights()
    return model


class ProductsOfOneDtype(TorchDispatchMode):
    """Refuses matrix products of two dtypes, as a GPU does; imagined ones let some of them pass."""

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        if op.overloadpacket.__name__ in PRODUCTS:
            assert len({arg.dtype for arg in args if isinstance(arg, torch.Tensor)}) == 1, op
        return op(*args, **(kwargs or {}))
