"""Images of what pretraining does: reconstructions, and where the adversary moved positions."""

import io

import cv2
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle
from PIL import Image
from torch import Tensor

from adpe_mm.models.layers.adversary import AdversarialPosition
from adpe_mm.models.layers.irpe import AXIS_BUCKETS

GREY = 128
COLUMNS = ('input', 'masked', 'prediction', 'all patches predicted')


def to_pixels(images: Tensor, mean: Tensor, std: Tensor) -> np.ndarray:
    """Undo the normalisation.

    Args:
        images: (B, 3, H, W), normalised.
        mean: Of each channel, from 0 to 255, (3, 1, 1).
        std: Of each channel.

    Returns:
        (B, H, W, 3) uint8, RGB.
    """
    pixels = (images.float() * std + mean).round().clamp(0, 255)
    return pixels.byte().permute(0, 2, 3, 1).cpu().numpy()


def reconstruction_rows(
    inputs: Tensor, masked: Tensor, prediction: Tensor, mean: Tensor, std: Tensor
) -> np.ndarray:
    """One row per image: input, masked input, prediction in the holes, all patches predicted.

    Args:
        inputs: (B, 3, H, W), normalised.
        masked: (B, 1, H, W) bool, True where masked.
        prediction: (B, 3, H, W), normalised.
        mean: Of the normalisation, from 0 to 255.
        std: Of the normalisation.

    Returns:
        (B, H, 4 * W, 3) uint8, RGB.
    """
    given, predicted = to_pixels(inputs, mean, std), to_pixels(prediction, mean, std)
    hidden = masked.permute(0, 2, 3, 1).cpu().numpy()
    holes = np.where(hidden, np.uint8(GREY), given)
    return np.concatenate((given, holes, np.where(hidden, predicted, given), predicted), axis=2)


def reconstruction_sheet(rows: np.ndarray, side: int = 168, gap: int = 4) -> np.ndarray:
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
    cells = np.split(rows, len(COLUMNS), axis=2)
    height, width = cells[0].shape[1:3]
    head = 24
    sheet = np.full(
        (head + len(rows) * (height + gap), len(COLUMNS) * (width + gap) - gap, 3), 255, np.uint8
    )
    for column, (title, images) in enumerate(zip(COLUMNS, cells, strict=True)):
        x = column * (width + gap)
        cv2.putText(
            sheet, title, (x + 2, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA
        )
        for row, image in enumerate(images):
            y = head + row * (height + gap)
            sheet[y : y + height, x : x + width] = image
    return sheet


@torch.no_grad()
def plot_adversary(adversary: AdversarialPosition, grid_size: tuple[int, int]) -> np.ndarray:
    """Where the adversary moved the positions of masked patches, or how it perturbs them.

    Args:
        adversary: The module.
        grid_size: Rows and columns of the patches.

    Returns:
        (height, width, 3) uint8, RGB.
    """
    figure = Figure(figsize=(8, 4), layout='constrained')
    left, right = figure.subplots(1, 2)
    if adversary.mode == 'coordinate':
        _plot_shifts(adversary, grid_size, left)
    else:
        _plot_embedding(adversary, left)
    sizes = [param.norm().item() for param in adversary.parameters()]
    right.bar(range(len(sizes)), sizes, color='tab:red')
    right.set(
        xlabel='tensor' if adversary.position == 'ape' else 'block (encoder, then decoder)',
        title='L2 norm' + (' (patches)' if adversary.mode == 'coordinate' else ''),
    )
    ball = (
        f'{adversary.norm} ball of radius {adversary.eps:g}' if adversary.norm else 'no projection'
    )
    figure.suptitle(f'adversary: {adversary.mode} mode, {adversary.position}, {ball}')
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=100)
    return np.asarray(Image.open(buffer).convert('RGB'))


def _plot_shifts(adversary: AdversarialPosition, grid_size: tuple[int, int], axes) -> None:
    rows, columns = grid_size
    y, x = np.mgrid[:rows, :columns]
    if adversary.position == 'ape':
        shifts = {'': adversary.ape.cpu().numpy()}
        axes.scatter(x, y, s=8, color='grey', label='patches')
        dx, dy = shifts['']
        axes.quiver(
            x, y, np.full(x.shape, dx), np.full(y.shape, dy),
            angles='xy', scale_units='xy', scale=1, color='tab:red', width=0.006,
        )  # fmt: skip
        axes.set(title='masked patches move to', xlabel='column', ylabel='row')
    else:
        # One arrow per block, around 0: the shift of (row, column) offsets.
        reach = 0.1
        for part, color in (('encoder', 'tab:blue'), ('decoder', 'tab:orange')):
            for i, shift in enumerate(getattr(adversary, part)):
                dy, dx = shift.cpu().numpy()
                reach = max(reach, abs(dx) * 1.2, abs(dy) * 1.2)
                axes.annotate(
                    '', (dx, dy), (0, 0), arrowprops=dict(arrowstyle='->', color=color, lw=1.2)
                )
                axes.text(dx, dy, i, color=color, fontsize=8)
        if adversary.norm and adversary.eps <= 4 * reach:
            eps = adversary.eps
            ball = (
                Circle((0, 0), eps, fill=False, ls=':')
                if adversary.norm == 'l2'
                else Rectangle((-eps, -eps), 2 * eps, 2 * eps, fill=False, ls=':')
            )
            axes.add_patch(ball)
            reach = max(reach, eps * 1.1)
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach))
        axes.set(title='shifts: encoder blue, decoder orange', xlabel='columns', ylabel='rows')
    axes.invert_yaxis()
    axes.set_aspect('equal')


def _plot_embedding(adversary: AdversarialPosition, axes) -> None:
    if adversary.position == 'rpe' and adversary.per_bucket:
        norms = torch.stack([delta.norm(dim=0) for delta in adversary.encoder]).mean(0)[:-1]
        reach = AXIS_BUCKETS // 2
        image = axes.imshow(
            norms.view(AXIS_BUCKETS, AXIS_BUCKETS).cpu().numpy(),
            extent=(-reach - 0.5, reach + 0.5, reach + 0.5, -reach - 0.5),
        )
        axes.figure.colorbar(image, ax=axes, shrink=0.8)
        axes.set(
            title='mean L2 norm per bucket, encoder',
            xlabel='column bucket',
            ylabel='row bucket',
        )
        return
    values = torch.cat([param.flatten() for param in adversary.parameters()]).cpu().numpy()
    axes.hist(values, bins=40)
    axes.set(title='entries of the perturbation')
