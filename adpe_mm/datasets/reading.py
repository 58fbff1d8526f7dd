"""How an image file becomes pixels: one rule for pretraining, transfer, features and drawings."""

import logging
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from mmengine import fileio
from mmengine.logging import print_log
from PIL import ExifTags, Image, UnidentifiedImageError

from adpe_mm.errors import UserError

ValueRange = tuple[float, float] | None
PERCENTILES = 1, 99
BITS, SAMPLE_FORMAT = 258, 339  # tags of a TIFF
UNSIGNED, SIGNED = 1, 2  # sample formats
_empty: set[str] = set()  # images that this process has named
# Of an EXIF orientation: whether rows and columns are exchanged; then, the steps along both.
_TURNS = {
    2: (False, 1, -1),
    3: (False, -1, -1),
    4: (False, -1, 1),
    5: (True, 1, 1),
    6: (True, 1, -1),
    7: (True, -1, -1),
    8: (True, -1, 1),
}


class UnreadableImage(UserError):
    """A file that is no image, or a broken one."""


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1, which is upright, where there is none or it is broken."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # of a broken entry Pillow lets out a SyntaxError and others
        return 1
    return orientation if orientation in _TURNS else 1


def turn_upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn and mirror the rows and columns of a file to what a viewer shows.

    Args:
        pixels: (H, W, ...) as they are stored.
        orientation: EXIF's, 1 to 8.

    Returns:
        (H, W, ...), or (W, H, ...) for 5 to 8; contiguous.
    """
    if orientation == 1:
        return pixels
    exchanged, down, right = _TURNS[orientation]
    pixels = pixels.swapaxes(0, 1) if exchanged else pixels
    return np.ascontiguousarray(pixels[::down, ::right])


def turn_back(
    box: tuple[int, int, int, int], size: tuple[int, int], orientation: int
) -> tuple[int, int, int, int]:
    """Where a box of the upright image lies in the pixels of the file.

    Args:
        box: (left, top, right, bottom) in pixels.
        size: (height, width) of the upright image.
        orientation: EXIF's, 1 to 8.

    Returns:
        (left, top, right, bottom) in pixels.
    """
    if orientation == 1:
        return box
    exchanged, down, right = _TURNS[orientation]
    x0, y0, x1, y1 = box
    if right < 0:
        x0, x1 = size[1] - x1, size[1] - x0
    if down < 0:
        y0, y1 = size[0] - y1, size[0] - y0
    return (y0, x0, y1, x1) if exchanged else (x0, y0, x1, y1)


def jpeg_size(content: bytes) -> tuple[int, int] | None:
    """Size of an ordinary JPEG, from its header.

    Args:
        content: Of the file.

    Returns:
        (height, width) in pixels; None if it is no JPEG of one or three colours, or so large that
        Pillow has to say something about it.
    """
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
    except ValueError:
        return None
    limit = Image.MAX_IMAGE_PIXELS
    if colours not in ('YCbCr', 'RGB', 'Gray') or limit and height * width > limit:
        return None
    return height, width


def jpeg_orientation(content: bytes) -> int:
    """The EXIF orientation of a JPEG, 1 to 8."""
    # The entry lies in the first segments. Pillow takes longer than this search finds out that
    # there is none.
    if content.find(b'Exif\0\0', 0, 2**16) < 0:
        return 1
    try:
        with Image.open(BytesIO(content)) as image:
            return orientation_of(image)
    except Exception:  # a header that libjpeg bears and Pillow does not
        return 1


def decode_jpeg(content: bytes, size: tuple[int, int], reduction: int = 1) -> np.ndarray | None:
    """Decode with libjpeg-turbo.

    Args:
        content: Of the file.
        size: (height, width) that `jpeg_size` found.
        reduction: 1, 2, 4 or 8: decode at this fraction of the size.

    Returns:
        (height / reduction, width / reduction, 3) uint8, rounded up; None if it is damaged.
    """
    height, width = (-(-length // reduction) for length in size) if reduction > 1 else (0, 0)
    try:  # the strongest reduction that leaves so many pixels
        return simplejpeg.decode_jpeg(content, min_height=height, min_width=width)
    except ValueError:
        return None


def to_rgb(image: Image.Image) -> Image.Image:
    """RGB of an 8-bit image of any mode; alpha is dropped, CMYK is converted by Pillow."""
    if image.mode == 'P' and 'transparency' in image.info:
        image = image.convert('RGBA')
    return image.convert('RGB')


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


def _by_opencv(content: bytes) -> np.ndarray | None:
    """(H, W) grey or (H, W, 3) RGB values of more than 8 bits, or None.

    A TIFF is upright already, other formats are not.
    """
    values = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype == np.uint8:
        return None
    return values if values.ndim == 2 else values[..., 2::-1]


def _deep_values(image: Image.Image, content: bytes) -> np.ndarray | None:
    """(H, W) grey or (H, W, 3) RGB values that 8 bits do not hold, or None.

    As they are stored but for a TIFF, which is upright.
    """
    tags = image.tag_v2 if image.format == 'TIFF' else {}
    kinds = tags.get(SAMPLE_FORMAT, (UNSIGNED,))
    if image.mode.startswith(('I', 'F')):
        values = np.asarray(image)
        # Pillow has no unsigned 32 bits.
        return (
            values.view(np.uint32) if tags.get(BITS) == (32,) and kinds == (UNSIGNED,) else values
        )
    # Of several channels Pillow keeps the upper 8 bits; it takes signed 8 bits for unsigned ones.
    raw_mode = str(image.tile[0][3]) if image.format in ('PNG', 'TIFF') and image.tile else ''
    return _by_opencv(content) if ';16' in raw_mode or SIGNED in kinds else None


def check_value_range(value_range: ValueRange) -> ValueRange:
    """The range as a tuple of two floats, or None.

    Raises:
        ValueError: If it is no range.
    """
    if value_range is None:
        return None
    bounds = tuple(float(value) for value in value_range)
    if len(bounds) != 2 or not bounds[0] < bounds[1]:
        raise UserError(
            'value_range must be (low, high), the values that become black and white, or None for '
            f'the percentiles of each image, got {value_range}'
        )
    return bounds


def warn_if_empty(path: str | Path, pixels: np.ndarray) -> None:
    """Name an image that is all of one colour, once in a process.

    Args:
        path: Of the image.
        pixels: (H, W, 3) uint8, of which some are looked at.
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


def read_image(
    path: str | Path, value_range: ValueRange = None, backend_args: dict | None = None
) -> np.ndarray:
    """Read a JPEG, PNG, WebP, BMP or TIFF.

    - Orientation: upright, as viewers show it and as OpenCV reads a JPEG. The EXIF entry counts in
      any format.
    - Depth: 8 bits are taken as they are. Other values (of 16 or 32 bits, signed, floats), which
      may fill a small part of their type's range, are mapped to 8 bits by `to_8_bits`, all channels
      alike: by percentiles of each image, or from a range that is the same for all images.
    - Colour: grey is repeated, alpha is dropped, CMYK is converted by Pillow.

    An image that is all of one colour is named in the log.

    Args:
        path: Path.
        value_range: (low, high), the values that become 0 and 255 where they have not 8 bits;
            None for the percentiles 1 and 99 of each image.
        backend_args: Of mmengine's file backend; None finds it by the path.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        UnreadableImage: If the file is missing, no image, broken, or absurdly large.
    """
    pixels = _read(path, value_range, backend_args)
    warn_if_empty(path, pixels)
    return pixels


def why_unreadable(path: str | Path) -> UnreadableImage | None:
    """Why `read_image` would not read an image or a mask; None if it would."""
    try:
        _read(path)
    except UnreadableImage as error:
        return error
    return None


def _read(
    path: str | Path, value_range: ValueRange = None, backend_args: dict | None = None
) -> np.ndarray:
    """`read_image` of an image that may be empty, as a mask may."""
    try:
        content = fileio.get(path, backend_args=backend_args)
        return _decode(content, value_range)
    except UnidentifiedImageError as error:
        raise UnreadableImage(
            'no image, or of an unknown format' if content else 'the file is empty'
        ) from error
    except Exception as error:  # Pillow lets a TypeError and others out of a broken header
        raise UnreadableImage(error) from error


def _decode(content: bytes, value_range: ValueRange) -> np.ndarray:
    """(H, W, 3) uint8, RGB, of a file's content; raises whatever Pillow does."""
    size = jpeg_size(content)
    pixels = None if size is None else decode_jpeg(content, size)
    if pixels is not None:
        return turn_upright(pixels, jpeg_orientation(content))
    try:
        with Image.open(BytesIO(content)) as image:
            values = _deep_values(image, content)
            pixels = np.array(to_rgb(image)) if values is None else values
            # Not before: of a TIFF Pillow turns the pixels as it reads them, and drops the entry.
            image.load()
            pixels = turn_upright(pixels, orientation_of(image))
    except UnidentifiedImageError:
        values = pixels = _by_opencv(content) if content else None  # knows more kinds of TIFF
        if pixels is None:
            raise
    if values is not None:
        pixels = to_8_bits(pixels, value_range)
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
