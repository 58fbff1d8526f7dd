"""What the content of an image file holds: bands of values as they are stored, turned upright."""

import math
from io import BytesIO
from typing import NamedTuple

import cv2
import numpy as np
import simplejpeg
import tifffile
from PIL import ExifTags, Image, UnidentifiedImageError

BITS, SAMPLE_FORMAT, ORIENTATION = 258, 339, 274  # tags of a TIFF
UNSIGNED, SIGNED = 1, 2  # sample formats
ALPHA = 1, 2  # kinds of an extra sample of a TIFF: associated and unassociated alpha
NPY, TIFF = b'\x93NUMPY', (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')  # how their content begins
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


class Stored(NamedTuple):
    """An image as it is stored, but upright.

    Attributes:
        values: (H, W, B), of any dtype.
        is_rgb: Whether the first three bands are red, green and blue.
        has_alpha: Whether the last band is alpha.
        pages: Of a TIFF, of which the first alone is here; 1 if all are.
    """

    values: np.ndarray
    is_rgb: bool
    has_alpha: bool = False
    pages: int = 1


def decode(content: bytes, channels: int | None = None) -> Stored:
    """Decode a JPEG, PNG, WebP, BMP or TIFF, or an array of numpy.

    CMYK, palettes and other kinds of colour become RGB by Pillow. Of a TIFF all axes but rows and
    columns are bands, be they interleaved, in planes or in pages; of photographs, the first page is
    taken.

    Args:
        content: Of the file.
        channels: How many bands are expected; None for a photograph, 0 for any number. Of an array,
            which may be (H, W, B) or (B, H, W), and of the pages of a TIFF, it tells the axis of
            the bands; where it does not, the shorter one of an array is taken.

    Raises:
        Exception: Whatever the decoders raise for a broken file.
    """
    size = jpeg_size(content)
    pixels = None if size is None else decode_jpeg(content, size)
    if pixels is not None:
        is_rgb = simplejpeg.decode_jpeg_header(content)[2] != 'Gray'
        pixels = turn_upright(pixels, jpeg_orientation(content))
        return Stored(pixels if is_rgb else pixels[..., :1], is_rgb)
    if content.startswith(NPY):
        return _of_numpy(content, channels)
    stored, pages = _bands_of_tiff(content, channels) if content.startswith(TIFF) else (None, 1)
    if stored is not None:
        return stored
    try:
        with Image.open(BytesIO(content)) as image:
            values = _deep_values(image, content)
            alpha = 'A' in image.mode.upper() or 'transparency' in image.info
            if values is None:
                values = np.array(_eight_bits(image, alpha))
            elif image.mode == 'LA':  # grey is repeated
                values = values[..., [0, 3]]
            # Not before: of a TIFF Pillow turns the pixels as it reads them, and drops the entry.
            image.load()
            values = turn_upright(values, orientation_of(image))
    except UnidentifiedImageError:
        values = _by_opencv(content) if content else None  # knows more kinds of TIFF
        alpha = False
        if values is None:
            raise
    if values.ndim == 2:
        values = values[..., None]
    return Stored(values, values.shape[2] >= 3, alpha, pages)


def _eight_bits(image: Image.Image, alpha: bool) -> Image.Image:
    """Grey or RGB of an 8-bit image of any mode, with or without alpha."""
    if image.mode == 'RGBX':
        return image
    kind = 'L' if image.mode in ('1', 'L', 'LA', 'La') else 'RGB'
    return image.convert(kind + 'A' * alpha)


def _by_opencv(content: bytes) -> np.ndarray | None:
    """(H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA values of more than 8 bits, or None.

    A TIFF is upright already, other formats are not.
    """
    values = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype == np.uint8:
        return None
    return values if values.ndim == 2 else values[..., [2, 1, 0, 3][: values.shape[2]]]


def _deep_values(image: Image.Image, content: bytes) -> np.ndarray | None:
    """(H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA values that 8 bits do not hold, or None.

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


def _of_numpy(content: bytes, channels: int | None) -> Stored:
    values = np.load(BytesIO(content), allow_pickle=False)
    if values.dtype.kind not in 'buif' or values.ndim not in (2, 3) or not values.size:
        raise ValueError(
            f'an array of {values.dtype} of shape {values.shape} is no image, which is (H, W), '
            '(H, W, bands) or (bands, H, W), of numbers'
        )
    if values.ndim == 2:
        values = values[..., None]
    first, last = values.shape[0], values.shape[2]
    if last != channels and (first == channels or first < last):
        values = values.transpose(1, 2, 0)
    return Stored(np.ascontiguousarray(values), False)


def _bands_of_tiff(content: bytes, channels: int | None) -> tuple[Stored | None, int]:
    """A TIFF of bands, which Pillow and OpenCV do not read, or drop; None if it is for them.

    And the number of its pages, of which they read the first.
    """
    try:
        file = tifffile.TiffFile(BytesIO(content))
        page, series = file.pages[0], file.series[0]
    except Exception:  # Pillow has the word of what is broken
        return None, 1
    is_rgb = page.photometric == tifffile.PHOTOMETRIC.RGB
    is_grey = page.photometric in (
        tifffile.PHOTOMETRIC.MINISBLACK,
        tifffile.PHOTOMETRIC.MINISWHITE,
    )
    axes = [i for i, axis in enumerate(series.axes) if axis not in 'YX']
    bands, per_page = math.prod(series.shape[i] for i in axes), page.samplesperpixel
    pages = bands // per_page
    of_bands = is_rgb and per_page > 4 or is_grey and per_page > 1
    if not of_bands and (pages == 1 or channels is None):
        return None, pages
    try:
        values = series.asarray(maxworkers=1)
    except ValueError as error:
        if 'imagecodecs' not in str(error):
            raise
        raise ValueError(
            f'its compression needs a library: pip install imagecodecs, or write it with deflate '
            f'({error})'
        ) from error
    if axes == [0] and per_page == 1 and values.shape[0] != channels == values.shape[2]:
        # What tifffile makes of (H, W, B) unless it is told better: a page for each row.
        return Stored(values, False), 1
    values = np.moveaxis(values, axes, range(-len(axes), 0))
    orientation = page.tags.valueof(ORIENTATION, default=1)
    values = turn_upright(values.reshape(*values.shape[:2], bands), orientation)
    has_alpha = bool(page.extrasamples) and page.extrasamples[-1] in ALPHA
    return Stored(np.ascontiguousarray(values), is_rgb, has_alpha), 1
