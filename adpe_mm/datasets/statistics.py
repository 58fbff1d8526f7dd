"""Mean and standard deviation of each band of images, which a preprocessor normalises with."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from adpe_mm.errors import UserError

from .reading import UnreadableImage, ValueRange, check_value_range, count_bands, read_image

LEVELS = 256


class Statistics(NamedTuple):
    """What was measured, over all pixels of all images together.

    Attributes:
        mean: Of each band, from 0 to 255.
        std: Of each band.
        images: That were read.
        unreadable: Paths of those that could not be read, with the reason.
    """

    mean: list[float]
    std: list[float]
    images: int
    unreadable: list[str]


def common_bands(paths: Iterable[str]) -> int:
    """How many bands the first images have: alpha counts, and the three of RGB.

    Raises:
        ValueError: If they differ, or none can be read.
    """
    found: dict[int, str] = {}
    for path in paths:
        try:
            found.setdefault(count_bands(path), path)
        except UnreadableImage:
            continue
    if len(found) != 1:
        kinds = ', '.join(f"'{path}' has {bands}" for bands, path in found.items())
        raise UserError(
            f'the images have different numbers of bands ({kinds}): state --channels'
            if found
            else 'none of the first images can be read'
        )
    return next(iter(found))


def channel_statistics(
    paths: Iterable[str], channels: int | None = None, value_range: ValueRange = None
) -> Statistics:
    """Measure images as `read_image` reads them.

    Each pixel of each image counts once, so that large images weigh more. The levels of each band
    are counted, which makes the result exact.

    Args:
        paths: Of the images.
        channels: Number of bands; None for RGB.
        value_range: Of images that have not 8 bits, see `read_image`.

    Raises:
        ValueError: If none can be read.
    """
    value_range = check_value_range(value_range)
    counts = np.zeros((channels or 3, LEVELS), np.int64)
    images, unreadable = 0, []
    for path in paths:
        try:
            pixels = read_image(path, value_range, channels=channels)
        except UnreadableImage as error:
            unreadable.append(f'{path} ({error})')
            continue
        images += 1
        for band, count in enumerate(counts):
            count += np.bincount(pixels[..., band].ravel(), minlength=LEVELS)
    if not images:
        last = f', the last being {unreadable[-1]}' if unreadable else ''
        raise UserError(f'none of the images can be read{last}')
    shares = counts / counts.sum(axis=1, keepdims=True)
    levels = np.arange(LEVELS)
    mean = shares @ levels
    std = np.sqrt((shares * (levels - mean[:, None]) ** 2).sum(axis=1))
    return Statistics(mean.tolist(), std.tolist(), images, unreadable)
