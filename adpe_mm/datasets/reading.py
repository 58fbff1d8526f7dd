"""How an image file becomes pixels: one rule for pretraining, transfer, features and drawings."""

import logging
import mmap
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from mmengine import fileio
from mmengine.logging import print_log
from PIL import UnidentifiedImageError

from adpe_mm.errors import UserError

from .decoding import Stored, decode

Range = tuple[float, float]
ValueRange = Range | tuple[Range, ...] | None
PERCENTILES = 1, 99
_empty: set[str] = set()  # images that this process has named
# What was said once is said by no process of a loader again: they share this memory.
_said = mmap.mmap(-1, 8)
_DROPPED = dict(alpha=0, colour=1, pages=2, bands=3)


class UnreadableImage(UserError):
    """A file that is no image, a broken one, or one of other bands than are wanted."""


def to_8_bits(values: np.ndarray, value_range: ValueRange) -> np.ndarray:
    """Map values of another depth linearly to 0..255, those outside of the range to its ends.

    Args:
        values: Of any shape and dtype; those that are not finite become 0, or 255 for infinity.
        value_range: (low, high); None for the percentiles 1 and 99 of the values, or, if these are
            equal as in a sky with few stars, the smallest and largest.

    Returns:
        uint8 of the same shape; 0 if all values are alike and no range is given.
    """
    if value_range is None:
        found = values[np.isfinite(values)] if values.dtype.kind == 'f' else values.ravel()
        sample = found[:: max(1, found.size // 10**6)]
        low, high = np.percentile(sample, PERCENTILES) if sample.size else (0, 0)
        if low == high and sample.size:
            low, high = float(found.min()), float(found.max())
        if low == high:
            return np.zeros(values.shape, np.uint8)
    else:
        low, high = value_range
    levels = (values.astype(np.float64) - low) * (255 / (high - low))
    return np.nan_to_num(levels, nan=0).clip(0, 255).round().astype(np.uint8)


def bands_to_8_bits(stored: Stored, value_range: ValueRange) -> np.ndarray:
    """Map bands that have not 8 bits to 0..255.

    Each band by percentiles of its own, as what is measured in it may have a unit of its own; but
    red, green and blue alike, as is usual for colours, and their alpha from the range of its type.

    Args:
        stored: The image.
        value_range: One (low, high) for all bands, or one for each of them; None for percentiles.

    Returns:
        (H, W, B) uint8.
    """
    values = stored.values
    if values.dtype == np.uint8:
        return values
    if values.dtype == bool:
        return values * np.uint8(255)
    bands = values.shape[2]
    if value_range is not None:
        ranges = value_range if isinstance(value_range[0], tuple) else (value_range,)
        ranges = ranges * bands if len(ranges) == 1 else ranges
        if len(ranges) != bands:
            raise UserError(
                f'value_range has {len(ranges)} pairs (low, high), and the image {bands} bands: '
                'give one for each band, or one for all'
            )
    else:
        ranges = [None] * bands
        if stored.has_alpha and values.dtype.kind in 'ui':
            ranges[-1] = (0, np.iinfo(values.dtype).max)
    if stored.is_rgb and ranges[0] == ranges[1] == ranges[2]:
        parts = [(slice(0, 3), ranges[0]), *((slice(i, i + 1), ranges[i]) for i in range(3, bands))]
    else:
        parts = [(slice(i, i + 1), ranges[i]) for i in range(bands)]
    levels = np.empty(values.shape, np.uint8)
    for part, limits in parts:
        levels[..., part] = to_8_bits(values[..., part], limits)
    return levels


def check_value_range(value_range: ValueRange) -> ValueRange:
    """The range, or one for each band, as tuples of two floats; or None.

    Raises:
        ValueError: If it is no range.
    """
    if value_range is None:
        return None
    several = len(value_range) > 0 and isinstance(value_range[0], Sequence)
    ranges = [tuple(map(float, bounds)) for bounds in (value_range if several else [value_range])]
    if any(len(bounds) != 2 or not bounds[0] < bounds[1] for bounds in ranges):
        raise UserError(
            'value_range must be (low, high), the values that become black and white, such a pair '
            f'for each band, or None for the percentiles of each image, got {value_range}'
        )
    return tuple(ranges) if several else ranges[0]


def warn_if_empty(path: str | Path, pixels: np.ndarray) -> None:
    """Name an image that is all of one colour, once in a process.

    Args:
        path: Of the image.
        pixels: (H, W, bands) uint8, of which some are looked at.
    """
    path = str(path)
    deviation = pixels[::8, ::8].std(axis=(0, 1)).max()
    if deviation < 0.5 and pixels.shape[0] * pixels.shape[1] > 1 and path not in _empty:
        _empty.add(path)
        print_log(
            f"'{path}' looks empty: its colours deviate by {deviation:.2g} of 255 levels; if it "
            'should not, check the file, or the value_range of its loader',
            logger='current',
            level=logging.WARNING,
        )


def _say_dropped(what: str, path: str | Path, text: str) -> None:
    """Say of the first image alone what is left of it, and so of others like it."""
    if not _said[_DROPPED[what]]:
        _said[_DROPPED[what]] = 1
        print_log(f"'{path}' {text}; this is said once", logger='current', level=logging.WARNING)


def choose_bands(stored: Stored, channels: int | None, path: str | Path) -> Stored:
    """The bands that are wanted of those that an image has.

    Args:
        stored: The image.
        channels: How many; None for RGB.
        path: Of the image, to tell of what is dropped: of each kind once.

    Returns:
        With as many bands; or with one, grey, for three, or with three, RGB, for one.

    Raises:
        UnreadableImage: If the image has another number of bands.
    """
    wanted = channels or 3
    values, is_rgb, has_alpha, pages = stored
    bands = values.shape[2]
    if pages > 1:
        _say_dropped('pages', path, f'has {pages} pages, of which the first is taken')
    if bands == wanted:
        return stored
    if has_alpha and (bands - 1 == wanted or bands - 1 in (1, 3) and wanted in (1, 3)):
        _say_dropped('alpha', path, 'has an alpha channel, which is dropped')
        return choose_bands(Stored(values[..., :-1], is_rgb), channels, path)
    if wanted == 3 and bands == 1:
        return stored
    if is_rgb and wanted == 3:
        _say_dropped('bands', path, f'has {bands} bands, of which red, green and blue are taken')
        return Stored(values[..., :3], True)
    if is_rgb and wanted == 1 and bands == 3:
        _say_dropped('colour', path, 'is in colour, which is turned to grey')
        return stored
    raise UnreadableImage(
        f'it has {bands} band{"s" if bands > 1 else ""}, and {wanted} are wanted: set '
        f'model.backbone.in_channels={bands}, or take the file out'
    )


def read_image(
    path: str | Path,
    value_range: ValueRange = None,
    backend_args: dict | None = None,
    channels: int | None = None,
) -> np.ndarray:
    """Read a JPEG, PNG, WebP, BMP or TIFF, or an array of numpy (.npy).

    - Orientation: upright, as viewers show it and as OpenCV reads a JPEG. The EXIF entry counts in
      any format.
    - Depth: 8 bits are taken as they are. Other values (of 16 or 32 bits, signed, floats), which
      may fill a small part of their type's range, are mapped to 8 bits by `to_8_bits`: by
      percentiles of each image, or from a range that is the same for all images. The three colours
      are mapped alike, each of other bands by itself.
    - RGB (`channels` None): grey is repeated, CMYK is converted by Pillow; alpha, and what a TIFF
      has beside red, green and blue, is dropped, which is said once.
    - Bands: as many as `channels` in the order of the file, interleaved, in planes or in pages. For
      one, colour becomes grey (ITU-R 601). Alpha counts as the last one where it is wanted.

    An image that is all of one colour is named in the log.

    Args:
        path: Path.
        value_range: (low, high), the values that become 0 and 255 where they have not 8 bits, or
            such a pair for each band; None for the percentiles 1 and 99 of each image.
        backend_args: Of mmengine's file backend; None finds it by the path.
        channels: Number of bands; None for RGB.

    Returns:
        (H, W, channels) uint8; RGB if `channels` is None.

    Raises:
        UnreadableImage: If the file is missing, no image, broken, absurdly large, or has another
            number of bands.
    """
    stored = choose_bands(_read(path, backend_args, channels), channels, path)
    pixels = bands_to_8_bits(stored, value_range)
    if pixels.shape[2] == 1 and channels != 1:
        pixels = np.repeat(pixels, channels or 3, axis=2)
    elif pixels.shape[2] == 3 and channels == 1:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[..., None]
    pixels = np.ascontiguousarray(pixels)
    warn_if_empty(path, pixels)
    return pixels


def count_bands(path: str | Path) -> int:
    """How many bands a file has, alpha among them.

    Raises:
        UnreadableImage: As `read_image`.
    """
    return _read(path, channels=0).values.shape[2]


def why_unreadable(path: str | Path, channels: int | None = None) -> UnreadableImage | None:
    """Why an image or a mask cannot be read; None if it can.

    Args:
        path: Path.
        channels: Number of bands that it has to have; None for any.
    """
    try:
        stored = _read(path, channels=channels)
        if channels is not None:
            choose_bands(stored, channels, path)
    except UnreadableImage as error:
        return error
    return None


def _read(
    path: str | Path, backend_args: dict | None = None, channels: int | None = None
) -> Stored:
    """What a file holds, which may be empty, as a mask may."""
    try:
        content = fileio.get(path, backend_args=backend_args)
        return decode(content, channels)
    except UnidentifiedImageError as error:
        raise UnreadableImage(
            'no image, or of an unknown format' if content else 'the file is empty'
        ) from error
    except Exception as error:  # Pillow lets a TypeError and others out of a broken header
        raise UnreadableImage(error) from error
