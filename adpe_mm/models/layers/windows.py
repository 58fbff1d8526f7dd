"""Windows that attention stays in, as in ViTDet.

Letters in shapes: B batch, R, C rows and columns of the patch grid, N = R * C patches, E width.
"""

import torch.nn.functional as F
from torch import Tensor


def to_windows(x: Tensor, grid_size: tuple[int, int], size: int) -> Tensor:
    """Cut a grid of patches into windows, padded with zeros at the right and the bottom.

    Args:
        x: (B, N, E).
        grid_size: (R, C).
        size: Side of a window, in patches.

    Returns:
        (B * windows, size * size, E), windows row by row.
    """
    R, C = grid_size
    x = x.unflatten(1, grid_size)
    if R % size or C % size:
        x = F.pad(x, (0, 0, 0, -C % size, 0, -R % size))
    x = x.unflatten(2, (-1, size)).unflatten(1, (-1, size))  # (B, rows, size, columns, size, E)
    return x.transpose(2, 3).flatten(3, 4).flatten(0, 2)


def from_windows(x: Tensor, grid_size: tuple[int, int], size: int) -> Tensor:
    """Inverse of `to_windows`: (B * windows, size * size, E) -> (B, N, E)."""
    R, C = grid_size
    rows, columns = -(-R // size), -(-C // size)
    x = x.unflatten(1, (size, size)).unflatten(0, (-1, rows, columns)).transpose(2, 3)
    return x.flatten(3, 4).flatten(1, 2)[:, :R, :C].flatten(1, 2)
