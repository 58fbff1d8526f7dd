"""How an image file becomes pixels: one rule for pretraining, transfer, features and pictures."""

from io import BytesIO
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import ExifTags, Image, UnidentifiedImageError

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


class UnreadableImage(Exception):
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
    """8-bit RGB of an image of any mode.

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


def read_image(source: str | Path | bytes) -> np.ndarray:
    """Read a JPEG, PNG, WebP, BMP or TIFF.

    - Orientation: upright, as viewers show it and as OpenCV reads a JPEG. The EXIF entry counts in
      any format.

    Args:
        source: Path, or content of a file.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        UnreadableImage: If the file is missing, no image, broken, or absurdly large.
    """
    try:
        content = source if isinstance(source, bytes) else Path(source).read_bytes()
        size = jpeg_size(content)
        pixels = None if size is None else decode_jpeg(content, size)
        if pixels is not None:
            return turn_upright(pixels, jpeg_orientation(content))
        with Image.open(BytesIO(content)) as image:
            pixels = np.array(to_rgb(image))
            # Not before: of a TIFF Pillow turns the pixels as it reads them, and drops the entry.
            return turn_upright(pixels, orientation_of(image))
    except UnidentifiedImageError as error:
        raise UnreadableImage('no image, or of an unknown format') from error
    except Exception as error:  # Pillow lets a TypeError and others out of a broken header
        raise UnreadableImage(error) from error
