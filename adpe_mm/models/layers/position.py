"""Sine-cosine positions of patches, differentiable in the coordinates, and resizing of learnt ones.

`F.interpolate` sums its gradients in any order on a GPU. Here the same values are products with a
matrix per axis, which are alike in each run.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from adpe_mm.errors import UserError

from .context import constant, without_autocast

TEMPERATURE = 10000.0


def grid_coordinates(grid_size: tuple[int, int], device: torch.device | None = None) -> Tensor:
    """Coordinates of the patches of a grid, in patches.

    Args:
        grid_size: Rows and columns of the grid.
        device: Where the coordinates live.

    Returns:
        Tensor of shape (rows * columns, 2), row by row; the last axis is (x, y), that is
        (column, row).
    """
    rows, columns = grid_size
    y, x = torch.meshgrid(
        torch.arange(rows, dtype=torch.float32, device=device),
        torch.arange(columns, dtype=torch.float32, device=device),
        indexing='ij',
    )
    return torch.stack((x, y), dim=-1).flatten(0, 1)


def sincos_position(coordinates: Tensor, embed_dims: int) -> Tensor:
    """Sine-cosine embedding of 2-D coordinates, as MAE has it (AdPE paper, section 3).

    The first half of the channels encodes x (columns), the second y (rows); each half is the
    sines followed by the cosines, at frequencies ``10000 ** -(2 i / (embed_dims / 2))``.

    Args:
        coordinates: (..., 2), (x, y) in patches; need not be integers. Gradients reach them.
        embed_dims: Channels of the embedding, a multiple of 4.

    Returns:
        Tensor of shape (..., embed_dims), float32.

    Raises:
        ValueError: If `embed_dims` is not a multiple of 4.
    """
    if embed_dims % 4:
        raise UserError(
            f'sine-cosine positions need an embedding width that 4 divides, got {embed_dims}'
        )
    index = torch.arange(embed_dims // 4, dtype=torch.float64, device=coordinates.device)
    frequency = (TEMPERATURE ** (-index / (embed_dims // 4))).float()
    angle = coordinates.float().unsqueeze(-1) * frequency  # (..., 2, embed_dims / 4)
    return torch.cat((angle.sin(), angle.cos()), dim=-1).flatten(-2)


def sincos_position_grid(
    grid_size: tuple[int, int], embed_dims: int, device: torch.device | None = None
) -> Tensor:
    """Positions of a whole grid with the cls token's zero vector in front.

    Returns:
        Tensor of shape (1, 1 + rows * columns, embed_dims).
    """
    position = sincos_position(grid_coordinates(grid_size, device), embed_dims)
    return torch.cat((position.new_zeros(1, embed_dims), position)).unsqueeze(0)


@constant
def resize_matrix(size: int, new_size: int, mode: str, device: torch.device) -> Tensor:
    """(new_size, size) matrix that resizes one axis as `F.interpolate` does.

    Args:
        size: Old length of the axis.
        new_size: New one.
        mode: 'bicubic', or 'bilinear', which is 'linear' for one axis.
        device: Where it is needed.
    """
    unit = torch.eye(size, device=device)[None, None]  # columns stay as they are
    return F.interpolate(unit, (new_size, size), mode=mode, align_corners=False)[0, 0]


def resize_grid(grid: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """Resize a map, in float32, to the values of ``F.interpolate(align_corners=False)``.

    Args:
        grid: (..., R, C).
        size: The new (R, C).
        mode: See `resize_matrix`.

    Returns:
        (..., *size) in the dtype of `grid`; the same tensor if it has that size.
    """
    resized = grid
    for axis in (-2, -1):
        old, new = resized.shape[axis], size[axis]
        if old != new:
            matrix = resize_matrix(old, new, mode, grid.device)
            with without_autocast(grid.device):  # it would round the positions
                resized = resized.float().transpose(axis, -1) @ matrix.T
            resized = resized.transpose(axis, -1)
    return resized.to(grid.dtype)


def resize_pos_embed(
    pos_embed: Tensor,
    grid_size: tuple[int, int],
    new_size: tuple[int, int],
    mode: str = 'bicubic',
    num_extra_tokens: int = 1,
) -> Tensor:
    """Resize absolute positions; those of extra tokens stay as they are.

    Args:
        pos_embed: (1, num_extra_tokens + R * C, E).
        grid_size: Its (R, C).
        new_size: The new one.
        mode: See `resize_matrix`.
        num_extra_tokens: Number of tokens in front of the patches.

    Returns:
        The resized tensor, of the same dtype.
    """
    if tuple(grid_size) == tuple(new_size):
        return pos_embed
    extra, patches = pos_embed[:, :num_extra_tokens], pos_embed[:, num_extra_tokens:]
    grid = patches.transpose(1, 2).unflatten(2, tuple(grid_size))  # (1, E, R, C)
    patches = resize_grid(grid, tuple(new_size), mode).flatten(2).transpose(1, 2)
    return torch.cat((extra, patches), dim=1)
