"""Images of reconstructions, of where the adversary moved positions, and of attention."""

import io
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from adpe_mm.datasets.reading import to_8_bits
from adpe_mm.errors import UserError
from adpe_mm.models.adversaries import Adversary

GREY = 128
PANEL = 512  # longest side of a panel of attention, in pixels; the image's if that is less
COLUMNS = ('input', 'masked', 'prediction', 'all patches predicted')
HEAD, GAP = 24, 4  # pixels of a sheet: its headings, and the space between its images


def to_pixels(
    images: Tensor, mean: Tensor, std: Tensor, bands: Sequence[int] | None = None
) -> np.ndarray:
    """Undo the normalisation.

    Args:
        images: (B, channels, H, W), normalised.
        mean: Of each channel, from 0 to 255, (channels, 1, 1).
        std: Of each channel.
        bands: Which three are shown as red, green and blue, counted from 0; by default the first
            three, or of fewer the first as grey.

    Returns:
        (B, H, W, 3) uint8, RGB.

    Raises:
        ValueError: If there are no such bands.
    """
    channels = images.shape[1]
    bands = list(bands or ((0, 1, 2) if channels >= 3 else (0, 0, 0)))
    if len(bands) != 3 or not all(0 <= band < channels for band in bands):
        raise UserError(f'three bands of 0 to {channels - 1} can be shown, got {bands}')
    pixels = (images.float() * std + mean)[:, bands].round().clamp(0, 255)
    return pixels.byte().permute(0, 2, 3, 1).cpu().numpy()


def reconstruction_rows(
    inputs: Tensor,
    masked: Tensor,
    prediction: Tensor,
    mean: Tensor,
    std: Tensor,
    bands: Sequence[int] | None = None,
) -> np.ndarray:
    """One row per image: input, masked input, prediction in the holes, all patches predicted.

    Args:
        inputs: (B, channels, H, W), normalised.
        masked: (B, 1, H, W) bool, True where masked.
        prediction: (B, channels, H, W), normalised.
        mean: Of the normalisation, from 0 to 255.
        std: Of the normalisation.
        bands: Which are shown: see `to_pixels`.

    Returns:
        (B, H, 4 * W, 3) uint8, RGB.
    """
    given, predicted = (to_pixels(x, mean, std, bands) for x in (inputs, prediction))
    hidden = masked.permute(0, 2, 3, 1).cpu().numpy()
    holes = np.where(hidden, np.uint8(GREY), given)
    return np.concatenate((given, holes, np.where(hidden, predicted, given), predicted), axis=2)


def reconstruction_sheet(rows: np.ndarray, side: int = 168, gap: int = GAP) -> np.ndarray:
    """Arrange rows on a sheet with headings.

    Args:
        rows: (B, H, 4 * W, 3) of `reconstruction_rows`.
        side: Height of an image on the sheet, in pixels.
        gap: Space between images, in pixels.

    Returns:
        (height, width, 3) uint8, RGB.
    """
    scale = max(1, round(side / rows.shape[1]))
    rows = rows.repeat(scale, 1).repeat(scale, 2)
    return sheet(dict(zip(COLUMNS, np.split(rows, len(COLUMNS), axis=2), strict=True)), gap)


def sheet(columns: dict[str, np.ndarray], gap: int = GAP) -> np.ndarray:
    """Columns of images, (B, H, W, 3) uint8 each, under their headings."""
    count, height, width = next(iter(columns.values())).shape[:3]
    whole = np.full(
        (HEAD + count * (height + gap), len(columns) * (width + gap) - gap, 3), 255, np.uint8
    )
    for column, (title, images) in enumerate(columns.items()):
        x = column * (width + gap)
        cv2.putText(
            whole, title, (x + 2, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA
        )
        for row, image in enumerate(images):
            y = HEAD + row * (height + gap)
            whole[y : y + height, x : x + width] = image
    return whole


def columns_of(whole: np.ndarray) -> dict[str, np.ndarray]:
    """The columns of a `reconstruction_sheet`; none of an image that is no such sheet."""
    body, width = whole[HEAD:], whole.shape[1] + GAP
    if width % len(COLUMNS):
        return {}
    width //= len(COLUMNS)
    for count in range(len(body) // (GAP + 1), 0, -1):
        if len(body) % count == 0:
            rows = np.stack(np.split(body, count))
            if (rows[:, -GAP:] == 255).all():
                cells = [rows[:, :-GAP, x : x + width - GAP] for x in range(0, 4 * width, width)]
                return dict(zip(COLUMNS, cells, strict=True))
    return {}


def epochs_sheet(sheets: dict[int, np.ndarray], crops: int) -> np.ndarray | None:
    """Predictions of several epochs side by side.

    Args:
        sheets: Of `reconstruction_sheet`, by epoch. Those of other images than the last one's are
            left out.
        crops: How many are shown at most.

    Returns:
        Columns: input, masked input, the prediction after each epoch; None without sheets.
    """
    found = {epoch: columns_of(sheets[epoch]) for epoch in sorted(sheets)}
    found = {epoch: columns for epoch, columns in found.items() if columns}
    if not found:
        return None
    last = found[max(found)]
    shown = {name: last[name] for name in COLUMNS[:2]}
    for epoch, columns in found.items():
        if np.array_equal(columns['masked'], last['masked']):
            shown[f'epoch {epoch}'] = columns['prediction']
    return sheet({name: images[:crops] for name, images in shown.items()})


@torch.no_grad()
def plot_adversary(adversary: Adversary, grid_size: tuple[int, int]) -> np.ndarray:
    """Where the adversary moved the positions of masked patches, or how it perturbs them.

    Args:
        adversary: The module.
        grid_size: Rows and columns of the patches.

    Returns:
        (height, width, 3) uint8, RGB.
    """
    figure = Figure(figsize=(8, 4), layout='constrained')
    left, right = figure.subplots(1, 2)
    adversary.draw(left, grid_size)
    sizes = [param.norm().item() for param in adversary.parameters()]
    right.bar(range(len(sizes)), sizes, color='tab:red')
    right.set(xlabel=adversary.tensors, title=f'L2 norm ({adversary.unit})')
    ball = (
        f'{adversary.norm} ball of radius {adversary.eps:g}' if adversary.norm else 'no projection'
    )
    figure.suptitle(f'{type(adversary).__name__}, {ball}')
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=100)
    return np.asarray(Image.open(buffer).convert('RGB'))


def as_rgb(pixels: np.ndarray) -> np.ndarray:
    """What can be shown of pixels as OpenMMLab's pipelines have them.

    Args:
        pixels: (H, W), or (H, W, bands): three are BGR; of more the first three are shown as red,
            green and blue, of fewer the first as grey. Of any dtype.

    Returns:
        (H, W, 3) uint8, RGB, contiguous.
    """
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    bands = {1: [0, 0, 0], 2: [0, 0, 0], 3: [2, 1, 0]}.get(pixels.shape[2], [0, 1, 2])
    pixels = pixels[..., bands]
    return np.ascontiguousarray(pixels if pixels.dtype == np.uint8 else to_8_bits(pixels, None))


def panel_size(size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a panel of attention that shows an image of (height, width)."""
    factor = min(1, PANEL / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def attention_sheet(image: np.ndarray, maps: np.ndarray) -> Image.Image:
    """An image, then for each head the same under the colours of its attention.

    Args:
        image: (H, W, 3) uint8, RGB.
        maps: (heads, h, w); NaN where the network sees nothing, which stays grey.

    Returns:
        Panels of (h, w) side by side.
    """
    heads, height, width = maps.shape
    panel = Image.fromarray(image).resize((width, height), Image.Resampling.BOX)
    sheet = Image.new('RGB', (width * (heads + 1), height))
    sheet.paste(panel, (0, 0))
    grey = panel.convert('L').convert('RGB')
    for i, heat in enumerate(maps, start=1):
        seen = np.isfinite(heat)
        if seen.any():
            heat = heat - heat[seen].min()
            heat = heat / max(heat[seen].max(), 1e-12)
        colours = (255 * colormaps['inferno'](np.where(seen, heat, 0))[..., :3]).astype(np.uint8)
        lit = Image.blend(panel, Image.fromarray(colours), 0.6)
        sheet.paste(Image.composite(lit, grey, Image.fromarray(seen)), (i * width, 0))
    return sheet
