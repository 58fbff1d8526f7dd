"""Where the backbone of a task looks, laid over the image as its file has it.

Between the file and the patches lie the pipeline (resizing, cropping, padding), the preprocessor
(padding) and, in segmentation, windows that slide over the image. None of them is assumed: the
pipeline is run on images whose pixels are their own coordinates.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from adpe_mm.errors import UserError
from adpe_mm.models import AdPEViT
from adpe_mm.models.backbones.adpe_vit import Block
from adpe_mm.models.layers.windows import from_windows, to_windows

GOLDEN = 0.6180339887  # its multiples fill 0 to 1 evenly, wherever one stops
TOLERANCE = 0.02  # of a side, by which the way into the network may differ from a straight line


@dataclass(frozen=True)
class Axis:
    """Columns (or rows) of the network's input, and where in the image they come from.

    Attributes:
        scale: Pixels of the image per pixel of the input; negative if it is mirrored.
        start: Where in the image the left edge of the input is, in pixels.
        inside: (first, end) of the input's columns that are of the image and no padding.
    """

    scale: float
    start: float
    inside: tuple[int, int]

    def to_input(self, positions: np.ndarray) -> np.ndarray:
        """Positions in the image, in pixels from its left edge, as such in the input."""
        return (positions - self.start) / self.scale


def trace(run: Callable[[np.ndarray], Tensor], size: tuple[int, int]) -> tuple[Axis, Axis]:
    """Find out where the network's input comes from in the image.

    What is done to the values is allowed for, as long as it is the same for all pixels.

    Args:
        run: Makes the input (C, H, W) of pixels (height, width) uint8.
        size: (height, width) of the image in pixels.

    Returns:
        Rows and columns.

    Raises:
        ValueError: If the image does not simply get resized, cropped, mirrored and padded.
    """
    height, width = size
    black, white = (run(np.full(size, value, np.uint8))[0].double() for value in (0, 255))
    contrast = (white - black).cpu().numpy()
    inside = np.abs(contrast) > 0.5 * np.abs(contrast).max()  # padding is always the same

    def coordinates(ramp: np.ndarray) -> np.ndarray:
        traced = run(ramp)[0].double() - black
        return np.divide(traced.cpu().numpy(), contrast, where=inside, out=np.zeros(inside.shape))

    rows = _fit(coordinates(_ramp(width, height).T).T, inside.T, height)
    return rows, _fit(coordinates(_ramp(height, width)), inside, width)


def _ramp(height: int, width: int) -> np.ndarray:
    """(height, width) uint8, rising from 0 to 255 by columns, dithered by rows."""
    values = 255 * (np.arange(width, dtype=np.float32) + 0.5) / width
    dither = np.arange(height, dtype=np.float32) * GOLDEN % 1
    return np.floor(values + dither[:, None]).astype(np.uint8)


def _fit(coordinates: np.ndarray, inside: np.ndarray, length: int) -> Axis:
    """A straight line through the coordinates, from 0 to 1, of an image so many pixels long."""
    columns = np.flatnonzero(inside.any(axis=0))
    found = length * coordinates.sum(axis=0)[columns] / inside.sum(axis=0)[columns]
    if len(columns) > 1:
        scale, start = np.polyfit(columns + 0.5, found, 1)
    else:
        scale, start = float(length), -float(length) * columns[0]
    line = start + scale * (np.arange(inside.shape[1]) + 0.5)
    deviation = (np.abs(length * coordinates - line) * inside).max()
    if deviation > max(TOLERANCE * length, 1):
        raise UserError(
            '--attention cannot follow the test pipeline, which must do no more than resize, crop, '
            f'mirror and pad: it moves pixels by up to {deviation:.0f}'
        )
    return Axis(float(scale), float(start), (int(columns[0]), int(columns[-1]) + 1))


def sliding_windows(model: nn.Module, size: tuple[int, int]) -> list[tuple[int, int, int, int]]:
    """What parts of its input a network passes to its backbone.

    Args:
        model: Of any task; a segmentor's ``test_cfg`` may have it slide.
        size: (height, width) of the input.

    Returns:
        (top, left, bottom, right) in pixels, of the whole input or of each window.
    """
    height, width = size
    test_cfg = getattr(model, 'test_cfg', None) or {}
    if test_cfg.get('mode') != 'slide':
        return [(0, 0, height, width)]

    def intervals(length: int, window: int, stride: int) -> list[tuple[int, int]]:
        number = -(-max(length - window, 0) // stride) + 1
        ends = [min(i * stride + window, length) for i in range(number)]
        return [(max(end - window, 0), end) for end in ends]

    crop, stride = test_cfg['crop_size'], test_cfg['stride']
    return [
        (top, left, bottom, right)
        for top, bottom in intervals(height, crop[0], stride[0])
        for left, right in intervals(width, crop[1], stride[1])
    ]


def attention_block(backbone: nn.Module) -> Block:
    """The last block that attends globally; the last of all, if none does.

    Raises:
        ValueError: If the backbone is not ours.
    """
    if not isinstance(backbone, AdPEViT):
        raise UserError('--attention needs adpe_mm.AdPEViT as backbone')
    return ([layer for layer in backbone.layers if not layer.window_size] or backbone.layers)[-1]


@torch.no_grad()
def looked_at(block: Block, x: Tensor, grid_size: tuple[int, int]) -> Tensor:
    """How much each patch is attended to: by the cls token, or by all patches on average.

    Args:
        block: Of the backbone.
        x: (1, L, E), its input.
        grid_size: (R, C).

    Returns:
        (heads, R, C).
    """
    y = block.ln1(x)
    if block.window_size:
        side = block.window_size
        weights = block.attn.weights(to_windows(y, grid_size, side), (side, side))
        maps = from_windows(weights.mean(dim=2).transpose(1, 2), grid_size, side)[0].T
    else:
        weights = block.attn.weights(y, grid_size)[0]  # (H, L, L)
        extra = x.shape[1] - grid_size[0] * grid_size[1]
        maps = weights[:, 0, extra:] if extra else weights.mean(dim=1)
    return maps.unflatten(1, grid_size)


def attention_maps(
    model: nn.Module, inputs: Tensor, axes: tuple[Axis, Axis], size: tuple[int, int], shape
) -> np.ndarray:
    """The attention of each head over the image.

    Args:
        model: Of any task, with our backbone.
        inputs: (1, C, H, W), normalised and padded.
        axes: Of `trace`.
        size: (height, width) of the image in pixels.
        shape: (height, width) of the maps, which show the whole image.

    Returns:
        (heads, *shape), averaged where windows overlap; NaN where the network sees nothing.
    """
    total, number = 0.0, np.zeros(shape)
    for (top, left, bottom, right), maps in _by_window(model, inputs):
        patch = model.backbone.patch_size
        down, seen_down = _interpolation(axes[0], (top, bottom), patch, size[0], shape[0])
        across, seen_across = _interpolation(axes[1], (left, right), patch, size[1], shape[1])
        seen = seen_down[:, None] & seen_across
        total = total + np.where(seen, down @ maps @ across.T, 0)
        number += seen
    with np.errstate(invalid='ignore'):
        return np.where(number > 0, total / number, np.nan)


def _by_window(model: nn.Module, inputs: Tensor) -> Iterator[tuple[tuple, np.ndarray]]:
    """Each window, and (heads, R, C) of `looked_at` in it."""
    block, seen = attention_block(model.backbone), []
    handle = block.register_forward_pre_hook(lambda module, args: seen.append(args[:2]))
    try:
        for box in sliding_windows(model, inputs.shape[2:]):
            top, left, bottom, right = box
            with torch.no_grad():
                model.backbone(inputs[:, :, top:bottom, left:right])
            x, grid_size = seen.pop()
            yield box, looked_at(block, x, grid_size).float().cpu().numpy()
    finally:
        handle.remove()


def _interpolation(
    axis: Axis, window: tuple[int, int], patch_size: int, length: int, number: int
) -> tuple[np.ndarray, np.ndarray]:
    """How the values of patches along one axis make those of a map that shows the whole image.

    Args:
        axis: Of the input.
        window: (first, end) of the input's columns that the patches cover; the last one may
            reach beyond.
        patch_size: In pixels of the input.
        length: Of the image, in pixels.
        number: Of the map's columns.

    Returns:
        (number, patches), linear between the centres of patches; and (number,) bool, where the
        map's columns lie in the window, and not in padding.
    """
    positions = axis.to_input((np.arange(number) + 0.5) * length / number)
    patches = -(-(window[1] - window[0]) // patch_size)
    centres = (positions - window[0]) / patch_size - 0.5
    weights = [np.interp(centres, np.arange(patches), patch) for patch in np.eye(patches)]
    inside = (positions >= max(window[0], axis.inside[0])) & (
        positions < min(window[1], axis.inside[1])
    )
    return np.stack(weights, axis=1), inside
