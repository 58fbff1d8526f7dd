"""Fixed 2-D sine-cosine positions of patches, differentiable in the coordinates."""

import torch
from mmpretrain.models.utils import resize_pos_embed
from torch import Tensor

from adpe_mm.errors import UserError

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


__all__ = ['grid_coordinates', 'resize_pos_embed', 'sincos_position', 'sincos_position_grid']
