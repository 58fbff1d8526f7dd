"""Open an image once, cut several crops; and the crop of linear probing."""

import math
from random import Random

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.logging import print_log
from mmengine.utils import to_2tuple
from PIL import Image
from torch import Tensor

from adpe_mm.errors import UserError
from adpe_mm.registry import TRANSFORMS

from .decoding import decode_jpeg, jpeg_orientation, jpeg_size, turn_back, turn_upright
from .reading import UnreadableImage, ValueRange, check_value_range, read_image, warn_if_empty

REDUCTIONS = 8, 4, 2, 1  # libjpeg decodes at 1/k of the size by computing fewer points per block
Box = tuple[int, int, int, int]


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Opens ``img_path`` by `read_image` as an 8-bit RGB `PIL.Image` under ``img``.

    Args:
        value_range: (low, high) of images that have not 8 bits: see `read_image`.

    Raises:
        UnreadableImage: If the file is missing, no image, broken, or absurdly large.
        ValueError: If `value_range` is none.
    """

    def __init__(self, value_range: ValueRange = None) -> None:
        self.value_range = check_value_range(value_range)

    def transform(self, results: dict) -> dict:
        results['img'] = Image.fromarray(read_image(results['img_path'], self.value_range))
        return results


@TRANSFORMS.register_module()
class LoadImageFromFile(BaseTransform):
    """Opens ``img_path`` by `read_image`, for the pipelines of tasks.

    Puts ``img`` (H, W, channels) uint8, three of them BGR as the transforms of OpenMMLab expect it,
    any other number in the order of the file; ``img_shape`` and ``ori_shape`` (H, W). mmcv's
    transform of that name turns only some formats upright, keeps the upper 8 of 16 bits, knows no
    bands, and leaves the path out of its errors.

    Args:
        value_range: (low, high) of images that have not 8 bits: see `read_image`.
        backend_args: Of mmengine's file backend; None finds it by the path.
        channels: Number of bands, which `fit_channels` sets; None for RGB: see `read_image`.

    Raises:
        UnreadableImage: If the file is missing, no image, broken, absurdly large, or has another
            number of bands.
        ValueError: If `value_range` is none.
    """

    def __init__(
        self,
        value_range: ValueRange = None,
        backend_args: dict | None = None,
        channels: int | None = None,
    ) -> None:
        self.value_range = check_value_range(value_range)
        self.backend_args = backend_args
        self.channels = channels

    def transform(self, results: dict) -> dict:
        path = results['img_path']
        try:
            img = read_image(path, self.value_range, self.backend_args, self.channels)
        except UnreadableImage as error:
            raise UnreadableImage(f"cannot read '{path}': {error}") from error
        results['img'] = cv2.cvtColor(img, cv2.COLOR_RGB2BGR) if img.shape[2] == 3 else img
        results['img_shape'] = results['ori_shape'] = results['img'].shape[:2]
        return results


@TRANSFORMS.register_module()
class LeftOut(BaseTransform):
    """Stands where a transform of colours was, in the pipeline of images of other bands.

    Args:
        step: Name of the transform, which is said.
    """

    def __init__(self, step: str) -> None:
        self.step = step
        print_log(f'{step} is left out: it computes with red, green and blue', logger='current')

    def transform(self, results: dict) -> dict:
        return results


def resized_crop_boxes(
    rng: Random,
    size: tuple[int, int],
    num_crops: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> list[Box]:
    """Boxes with the distribution of torchvision's `RandomResizedCrop`.

    Args:
        rng: Source of randomness, or numpy's generator: its ``random()`` is called.
        size: (height, width) of the image, in pixels.
        num_crops: How many boxes.
        scale: Smallest and largest area of a box, as a fraction of the image's.
        ratio: Smallest and largest width over height.

    Returns:
        (left, top, right, bottom) in pixels, as PIL takes them.
    """
    height, width = size
    lowest, highest = math.log(ratio[0]), math.log(ratio[1])
    draw = rng.random
    boxes = []
    for _ in range(num_crops):
        for _ in range(10):
            area = height * width * (scale[0] + (scale[1] - scale[0]) * draw())
            aspect = math.exp(lowest + (highest - lowest) * draw())
            w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < w <= width and 0 < h <= height:
                left, top = int((width - w + 1) * draw()), int((height - h + 1) * draw())
                break
        else:  # the largest box of an allowed aspect, in the centre
            aspect = min(max(width / height, ratio[0]), ratio[1])
            w, h = min(width, round(height * aspect)), min(height, round(width / aspect))
            left, top = (width - w) // 2, (height - h) // 2
        boxes.append((left, top, left + w, top + h))
    return boxes


def align(box: Box, size: tuple[int, int], reduction: int) -> Box:
    """Move a box, by up to `reduction` / 2 pixels, to a whole pixel of the reduced image.

    Args:
        box: (left, top, right, bottom) in pixels of the whole size.
        size: (height, width) of the whole image, within which the box stays.
        reduction: Of the decoded image.

    Returns:
        The moved box, of the same size.
    """
    if reduction == 1:
        return box
    left, top, right, bottom = box
    x = min(round(left / reduction), (size[1] - right + left) // reduction) * reduction
    y = min(round(top / reduction), (size[0] - bottom + top) // reduction) * reduction
    return x, y, x + right - left, y + bottom - top


def as_planes(pixels: np.ndarray) -> Tensor:
    """(N, H, W, bands) as a tensor (N, bands, H, W) on the same memory."""
    return torch.from_numpy(pixels.transpose(0, 3, 1, 2))


def interpolate(
    pixels: np.ndarray, out: np.ndarray, by_rows: float | None, by_columns: float | None
) -> None:
    """Resize by antialiased bicubic interpolation.

    Args:
        pixels: (H, W, bands) uint8.
        out: (h, w, bands) uint8, which is written.
        by_rows: Pixels of `out` for one of `pixels`; None for h / H.
        by_columns: The same, for w / W.
    """
    # Below F.interpolate, which takes no factors beside the size, and nothing to write to. Without
    # `out` it would make planes, and torch 2.11 writes past them where only one axis is resized.
    torch._C._nn._upsample_bicubic2d_aa(
        as_planes(pixels[None]), out.shape[:2], False, by_rows, by_columns, out=as_planes(out[None])
    )


def resample(pixels: np.ndarray, box: Box, crop: np.ndarray, reduction: int = 1) -> None:
    """Cut a box and resize it by antialiased bicubic interpolation.

    The filter is Pillow's, in torch's vectorised form: they differ where rounding does, after each
    axis.

    Args:
        pixels: (H, W, bands) uint8, at 1/reduction of its size.
        box: (left, top, right, bottom) in pixels of the whole size; left and top are multiples of
            `reduction`.
        crop: (h, w, bands) uint8, which is written.
        reduction: Of `pixels`.
    """
    left, top, right, bottom = box
    # Cut first: the surroundings must not bleed into the border.
    rows = slice(top // reduction, -(-bottom // reduction))
    columns = slice(left // reduction, -(-right // reduction))
    cut = pixels[rows, columns]
    height, width = crop.shape[:2]
    by_rows, by_columns = None, None
    if reduction > 1:  # the box may end within a pixel
        by_rows = height * reduction / (bottom - top)
        by_columns = width * reduction / (right - left)
    # To add rows takes half the time of adding neighbours, so that comes first, on all pixels.
    low = np.empty((height, cut.shape[1], cut.shape[2]), np.uint8)
    interpolate(cut, low, by_rows, None)
    interpolate(low, crop, None, by_columns)


@TRANSFORMS.register_module()
class MultiCrop(BaseTransform):
    """Cuts several random crops from one image, each resized, and draws which to mirror.

    Opens ``img_path`` by `read_image`, but faster if it is an ordinary JPEG; or takes the RGB
    `PIL.Image` that an earlier transform put under ``img``. Draws from ``rng`` of the sample; puts
    ``crops`` (C, bands, h, w) uint8, and ``mirrored``, C bools: `MultiCropPreprocessor` mirrors
    them on the device.

    Args:
        num_crops: C, crops per image (AdPE: 4).
        size: (h, w) or one side of a crop, in pixels (AdPE: 112).
        scale: Smallest and largest area of a crop, as a fraction of the image's.
        ratio: Smallest and largest width over height of the box.
        flip_prob: Probability to mirror a crop.
        reducing_gap: A JPEG is decoded at 1/2, 1/4 or 1/8 of its size if each of its boxes is then
            still at least this many times as large as a crop, as with Pillow's option of that
            name. Faster for large images; the boxes move by up to 1, 2 or 4 pixels of them, and
            the crops are slightly different (docs/speed.md has numbers). None decodes all.
        backend: 'torch', or 'pillow', which is slow, and resizes as the official pipeline does, bit
            for bit. They differ by 0.13 levels (of 255) on average, as they round differently.
        value_range: (low, high) of images that have not 8 bits: see `read_image`.
        channels: Number of bands, which `fit_channels` sets; None for RGB: see `read_image`.

    Raises:
        ValueError: If a range is empty or outside of what makes sense.
        UnreadableImage: As `read_image`.
    """

    def __init__(
        self,
        num_crops: int = 4,
        size: int | tuple[int, int] = 112,
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        flip_prob: float = 0.5,
        reducing_gap: float | None = None,
        backend: str = 'torch',
        value_range: ValueRange = None,
        channels: int | None = None,
    ) -> None:
        if num_crops < 1:
            raise UserError(f'MultiCrop.num_crops must be at least 1, got {num_crops}')
        if not 0 < scale[0] <= scale[1] <= 1:
            raise UserError(f'MultiCrop.scale must be a range in (0, 1], got {scale}')
        if not 0 < ratio[0] <= ratio[1]:
            raise UserError(f'MultiCrop.ratio must be a range above 0, got {ratio}')
        if not 0 <= flip_prob <= 1:
            raise UserError(f'MultiCrop.flip_prob must lie in [0, 1], got {flip_prob}')
        if reducing_gap is not None and reducing_gap < 1:
            raise UserError(
                f'MultiCrop.reducing_gap must be None or at least 1, got {reducing_gap}'
            )
        if backend not in ('torch', 'pillow'):
            raise UserError(f"MultiCrop.backend must be 'torch' or 'pillow', got '{backend}'")
        if backend == 'pillow' and reducing_gap is not None:
            raise UserError("MultiCrop.reducing_gap needs MultiCrop.backend='torch'")
        if backend == 'pillow' and channels not in (None, 3):
            raise UserError("MultiCrop.backend='pillow' resizes RGB only: take 'torch' for bands")
        self.num_crops = num_crops
        self.size = to_2tuple(size)
        self.scale = tuple(scale)
        self.ratio = tuple(ratio)
        self.flip_prob = flip_prob
        self.reducing_gap = reducing_gap
        self.backend = backend
        self.value_range = check_value_range(value_range)
        self.channels = channels

    def transform(self, results: dict) -> dict:
        results['crops'] = as_planes(self._cut(results))
        draw = results['rng'].random
        results['mirrored'] = [draw() < self.flip_prob for _ in range(self.num_crops)]
        return results

    def _cut(self, results: dict) -> np.ndarray:
        """(C, h, w, bands) uint8."""
        crops = np.empty((self.num_crops, *self.size, self.channels or 3), np.uint8)
        if self.backend == 'torch' and 'img' not in results and self.channels in (None, 3):
            try:
                with open(results['img_path'], 'rb', buffering=0) as file:
                    content = file.read()
            except OSError as error:
                raise UnreadableImage(error) from error
            size = jpeg_size(content)
            if size is not None:
                orientation = jpeg_orientation(content)
                stored, size = size, size[::-1] if orientation >= 5 else size
                boxes = self._boxes(results, size)
                reduction = self._reduction(boxes)
                pixels = decode_jpeg(content, stored, reduction)
                if pixels is not None:
                    warn_if_empty(results['img_path'], pixels)
                    for crop, box in zip(crops, boxes, strict=True):
                        # Crops are turned, which are small; so the box is turned back.
                        part = align(turn_back(box, size, orientation), stored, reduction)
                        shape = self.size[::-1] if orientation >= 5 else self.size
                        cut = crop if orientation == 1 else np.empty((*shape, 3), np.uint8)
                        resample(pixels, part, cut, reduction)
                        if orientation > 1:
                            crop[:] = turn_upright(cut, orientation)
                    return crops
        if 'img' in results:
            pixels = np.array(results['img'])
        else:
            path = results['img_path']
            pixels = read_image(path, self.value_range, channels=self.channels)
        boxes = self._boxes(results, pixels.shape[:2])
        if self.backend == 'torch':
            for crop, box in zip(crops, boxes, strict=True):
                resample(pixels, box, crop)
        else:  # cut first: with `box=` the surroundings would bleed into the border
            image = Image.fromarray(pixels)
            for crop, box in zip(crops, boxes, strict=True):
                crop[:] = image.crop(box).resize(self.size[::-1], Image.Resampling.BICUBIC)
        return crops

    def _boxes(self, results: dict, size: tuple[int, int]) -> list[Box]:
        return resized_crop_boxes(results['rng'], size, self.num_crops, self.scale, self.ratio)

    def _reduction(self, boxes: list[Box]) -> int:
        """The strongest one that leaves all boxes large enough."""
        if self.reducing_gap is None:
            return 1
        height, width = self.size
        room = min(
            min((bottom - top) / height, (right - left) / width)
            for left, top, right, bottom in boxes
        )
        return next(k for k in REDUCTIONS if k == 1 or k * self.reducing_gap <= room)


@TRANSFORMS.register_module()
class ClampedResizedCrop(BaseTransform):
    """Cuts one random crop and resizes it, as MAE does for linear probing (its `util/crop.py`).

    Area and aspect are drawn once, and a box that is longer than the image is cut to it. In its
    place the usual `RandomResizedCrop` draws anew, so that its crops are smaller on average, and
    keep to their range of aspects. Draws from numpy's global generator, as mmpretrain's transforms
    do; changes ``img`` (H, W, 3) uint8 and ``img_shape``.

    Args:
        size: (h, w) or one side of the crop, in pixels.
        scale: Smallest and largest area of a crop, as a fraction of the image's.
        ratio: Smallest and largest width over height that is drawn.

    Raises:
        ValueError: If a range is empty or outside of what makes sense.
    """

    def __init__(
        self,
        size: int | tuple[int, int] = 224,
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
    ) -> None:
        if not 0 < scale[0] <= scale[1] <= 1:
            raise UserError(f'ClampedResizedCrop.scale must be a range in (0, 1], got {scale}')
        if not 0 < ratio[0] <= ratio[1]:
            raise UserError(f'ClampedResizedCrop.ratio must be a range above 0, got {ratio}')
        self.size = to_2tuple(size)
        self.scale = tuple(scale)
        self.ratio = tuple(ratio)

    def transform(self, results: dict) -> dict:
        height, width = results['img'].shape[:2]
        area = height * width * np.random.uniform(*self.scale)
        aspect = math.exp(np.random.uniform(*map(math.log, self.ratio)))
        w = min(max(round(math.sqrt(area * aspect)), 1), width)
        h = min(max(round(math.sqrt(area / aspect)), 1), height)
        top, left = np.random.randint(height - h + 1), np.random.randint(width - w + 1)
        box = Image.fromarray(results['img'][top : top + h, left : left + w])
        results['img'] = np.array(box.resize(self.size[::-1], Image.Resampling.BICUBIC))
        results['img_shape'] = self.size
        return results


@TRANSFORMS.register_module()
class PackCrops(BaseTransform):
    """Keeps what a batch needs: ``inputs`` (C, bands, h, w) uint8, ``mirrored``, ``unreadable``."""

    def transform(self, results: dict) -> dict:
        return dict(
            inputs=results['crops'],
            mirrored=results['mirrored'],
            unreadable=results['unreadable'],
        )
