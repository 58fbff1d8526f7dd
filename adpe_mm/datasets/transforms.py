"""Open a picture once, cut several crops."""

import math

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.utils import to_2tuple
from PIL import Image

from adpe_mm.registry import TRANSFORMS

from .pictures import UnreadablePicture


def to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB of a picture of any mode.

    16-bit grey keeps its upper bits (Pillow's own conversion would clip it to white); alpha is
    dropped; CMYK is converted by Pillow.
    """
    if image.mode.startswith('I'):
        grey = np.asarray(image).astype(np.int64)
        depth = 8 if image.mode.startswith('I;16') or grey.max() > 255 else 0
        return Image.fromarray((grey >> depth).clip(0, 255).astype(np.uint8)).convert('RGB')
    if image.mode == 'P' and 'transparency' in image.info:
        image = image.convert('RGBA')
    return image.convert('RGB')


@TRANSFORMS.register_module()
class LoadPicture(BaseTransform):
    """Opens ``img_path`` as an 8-bit RGB `PIL.Image` under ``img``.

    JPEG, PNG, WebP, BMP and TIFF; grey, palette, CMYK and 16-bit. An EXIF orientation is ignored,
    as in the official pipeline (torchvision's loader).

    Raises:
        UnreadablePicture: If the file is missing, no picture, broken, or absurdly large.
    """

    def transform(self, results: dict) -> dict:
        try:
            with Image.open(results['img_path']) as image:
                results['img'] = to_rgb(image)
        except Exception as error:  # Pillow lets a TypeError and others out of a broken header
            raise UnreadablePicture(error) from error
        return results


def resized_crop_boxes(
    rng: np.random.Generator,
    size: tuple[int, int],
    num_crops: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> list[tuple[int, int, int, int]]:
    """Boxes with the distribution of torchvision's `RandomResizedCrop`.

    Args:
        rng: Source of randomness.
        size: (height, width) of the picture, in pixels.
        num_crops: How many boxes.
        scale: Smallest and largest area of a box, as a fraction of the picture's.
        ratio: Smallest and largest width over height.

    Returns:
        (left, top, right, bottom) in pixels, as PIL takes them.
    """
    height, width = size
    boxes = []
    for _ in range(num_crops):
        for _ in range(10):
            area = height * width * rng.uniform(*scale)
            aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
            w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < w <= width and 0 < h <= height:
                left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
                break
        else:  # the largest box of an allowed aspect, in the centre
            aspect = min(max(width / height, ratio[0]), ratio[1])
            w, h = min(width, round(height * aspect)), min(height, round(width / aspect))
            left, top = (width - w) // 2, (height - h) // 2
        boxes.append((left, top, left + w, top + h))
    return boxes


@TRANSFORMS.register_module()
class MultiCrop(BaseTransform):
    """Cuts several random crops from one picture, each resized and perhaps mirrored.

    Draws from ``rng`` of the sample; puts ``crops`` (C, 3, h, w) uint8 beside ``img``.

    Args:
        num_crops: C, crops a picture (AdPE: 4).
        size: (h, w) or one side of a crop, in pixels (AdPE: 112).
        scale: Smallest and largest area of a crop, as a fraction of the picture's.
        ratio: Smallest and largest width over height of the box.
        flip_prob: Probability to mirror a crop.

    Raises:
        ValueError: If a range is empty or outside of what makes sense.
    """

    def __init__(
        self,
        num_crops: int = 4,
        size: int | tuple[int, int] = 112,
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        flip_prob: float = 0.5,
    ) -> None:
        if num_crops < 1:
            raise ValueError(f'MultiCrop.num_crops must be at least 1, got {num_crops}')
        if not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError(f'MultiCrop.scale must be a range in (0, 1], got {scale}')
        if not 0 < ratio[0] <= ratio[1]:
            raise ValueError(f'MultiCrop.ratio must be a range above 0, got {ratio}')
        if not 0 <= flip_prob <= 1:
            raise ValueError(f'MultiCrop.flip_prob must lie in [0, 1], got {flip_prob}')
        self.num_crops = num_crops
        self.size = to_2tuple(size)
        self.scale = tuple(scale)
        self.ratio = tuple(ratio)
        self.flip_prob = flip_prob

    def transform(self, results: dict) -> dict:
        image: Image.Image = results['img']
        rng: np.random.Generator = results['rng']
        crops = np.empty((self.num_crops, *self.size, 3), dtype=np.uint8)
        boxes = resized_crop_boxes(
            rng, (image.height, image.width), self.num_crops, self.scale, self.ratio
        )
        for crop, box in zip(crops, boxes, strict=True):
            # Crop first: resizing with `box=` would let the surroundings bleed into the border.
            resized = image.crop(box).resize(self.size[::-1], Image.Resampling.BICUBIC)
            crop[:] = resized
            if rng.random() < self.flip_prob:
                crop[:] = crop[:, ::-1].copy()
        results['crops'] = torch.from_numpy(crops).permute(0, 3, 1, 2).contiguous()
        return results


@TRANSFORMS.register_module()
class PackCrops(BaseTransform):
    """Keeps what a batch needs: ``inputs`` (C, 3, h, w) uint8, and ``unreadable``."""

    def transform(self, results: dict) -> dict:
        return dict(inputs=results['crops'], unreadable=results['unreadable'])
