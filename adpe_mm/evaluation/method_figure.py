"""The figure of the method: masked patches, and where the adversary says that they are."""

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from adpe_mm.errors import UserError
from adpe_mm.models import MAEPlus
from adpe_mm.models.adversaries import AbsoluteCoordinate, Adversary, RelativeCoordinate

from .drawing import reconstruction_rows
from .reconstruction import grid_of

SIDE = 480  # pixels of an image
INK, MOVED = '#222222', '#d62728'


def shift_of(adversary: Adversary, block: int = 0) -> tuple[float, float]:
    """(dx, dy) in patches by which an adversary moves masked patches.

    Args:
        adversary: In coordinate mode.
        block: Of the encoder, counted from 0; on absolute positions there is one shift for all.

    Raises:
        ValueError: If it moves nothing, or there is no such block.
    """
    if isinstance(adversary, AbsoluteCoordinate):
        dx, dy = adversary.ape.tolist()
    elif isinstance(adversary, RelativeCoordinate):
        if not 0 <= block < len(adversary.encoder):
            raise UserError(f'--block must lie in 0..{len(adversary.encoder) - 1}, got {block}')
        dy, dx = adversary.encoder[block].tolist()
    else:
        raise UserError(
            'only an adversary in coordinate mode moves positions, and that of the config is '
            f'{type(adversary).__name__}: set model.adversary.mode=coordinate'
        )
    return dx, dy


def _frame(axes: Axes, rows: int, columns: int, title: str) -> None:
    axes.set(xticks=[], yticks=[], xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5))
    axes.set_title(title, fontsize=17, color=INK, pad=10)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _show(axes: Axes, pixels: np.ndarray, rows: int, columns: int) -> None:
    height = round(SIDE * rows / columns)
    pixels = np.asarray(Image.fromarray(pixels).resize((SIDE, height), Image.Resampling.BICUBIC))
    axes.imshow(pixels, extent=(-0.5, columns - 0.5, rows - 0.5, -0.5), zorder=0)


def _cover(axes: Axes, masked: np.ndarray, colour: str) -> None:
    edge = '#bbbbbb' if colour == 'white' else 'white'
    for y, x in np.argwhere(masked):
        axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fc=colour, ec=edge, zorder=1))


def _move(axes: Axes, masked: np.ndarray, shift: tuple[float, float]) -> None:
    """Each masked patch where the adversary puts it, and an arrow to there."""
    y, x = np.nonzero(masked)
    dx, dy = (np.full(len(x), value) for value in shift)
    for place in zip(x + dx, y + dy, strict=True):
        corner = place[0] - 0.5, place[1] - 0.5
        axes.add_patch(Rectangle(corner, 1, 1, fc=MOVED, ec=MOVED, alpha=0.22, lw=0, zorder=2))
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, ec=MOVED, lw=1.2, zorder=3))
    axes.quiver(
        x, y, dx, dy, angles='xy', scale_units='xy', scale=1, color=INK, width=0.006, zorder=4
    )


def method_figure(
    image: np.ndarray, masked: np.ndarray, prediction: np.ndarray, shift: tuple[float, float]
) -> Figure:
    """An image, its masked patches, where the adversary moves them, and what is predicted.

    Args:
        image: (H, W, 3) uint8, RGB.
        masked: (R, C) bool, True where a patch is masked.
        prediction: (H, W, 3) uint8: of the masked patches, beside the visible ones.
        shift: (dx, dy) in patches, to the right and down.

    Returns:
        1600 px wide at 100 dots per inch; on white, for pages of any colour.
    """
    rows, columns = masked.shape
    (left, right), (up, down) = ((max(0, -s), max(0, s)) for s in shift)
    wide = columns + left + right
    figure = Figure(figsize=(16, 5.4), layout='constrained', facecolor='white')
    panels = figure.subplots(1, 4, width_ratios=(columns, columns, wide, columns))
    fraction = f'{100 * masked.mean():.0f} %'
    titles = (
        'an image, in patches',
        f'{fraction} are masked ...',
        f'... and moved by ({shift[0]:+.1f}, {shift[1]:+.1f}) patches',
        'the network fills them in',
    )
    notes = (
        '',
        'Their neighbours give\nmost of them away.',
        'The adversary climbs the loss: neighbours\nno longer lie where they seem to lie.',
        'What helps now\nis the whole image.',
    )
    for axes, title, text in zip(panels, titles, notes, strict=True):
        _frame(axes, rows, columns, title)
        axes.set_xlabel(text, fontsize=15, color=INK, labelpad=10)
    for axes in panels[:3]:
        _show(axes, image, rows, columns)
    _show(panels[3], prediction, rows, columns)
    _cover(panels[1], masked, '#d9d9d9')
    _cover(panels[2], masked, 'white')
    _move(panels[2], masked, shift)
    panels[2].set(xlim=(-0.6 - left, columns - 0.4 + right), ylim=(rows - 0.4 + down, -0.6 - up))
    return figure


@torch.no_grad()
def draw_method(model: MAEPlus, inputs: torch.Tensor, seed: int = 0, block: int = 0) -> Figure:
    """The figure of a trained network.

    Args:
        model: In evaluation mode.
        inputs: (1, channels, H, W), normalised.
        seed: Chooses the masked patches.
        block: See `shift_of`.

    Raises:
        ValueError: See `shift_of`.
    """
    shift = shift_of(model.adversary, block)
    rows, columns = grid_of(model, inputs)
    noise = torch.rand(1, rows * columns, generator=torch.Generator().manual_seed(seed))
    prediction, masked = model.reconstruct(inputs, noise)
    mean, std = model.data_preprocessor.mean, model.data_preprocessor.std
    row = reconstruction_rows(inputs, masked, prediction, mean, std)[0]
    image, _, filled, _ = np.split(row, 4, axis=1)
    patch = model.backbone.patch_size
    return method_figure(image, masked[0, 0, ::patch, ::patch].numpy(), filled, shift)
