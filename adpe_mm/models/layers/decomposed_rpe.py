"""Decomposed relative positions of ViTDet, without a tensor of one entry per pair.

Li et al., arXiv 2203.16527 (after MViTv2, arXiv 2112.01526): the logit of query i and key j gains
``q_i . rows[row_i - row_j] + q_i . columns[col_i - col_j]``. Each term depends on the key by its
row or its column alone, so both become R + C more channels of query and key.

Letters in shapes: B batch, H heads, N patches, R rows, C columns of the grid, D head width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .place_products import missing
from .position import resize_grid


class DecomposedRelativePosition(nn.Module):
    """One table for the rows' offsets and one for the columns'.

    Args:
        head_dim: Width D of a head.
        size: (R, C) of the grid that the tables are made for; for another one they are
            interpolated linearly.
    """

    def __init__(self, head_dim: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * size[0] - 1, head_dim))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * size[1] - 1, head_dim))

    def forward(
        self, query: Tensor, grid_size: tuple[int, int], factor: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Channels whose products are the position term of the logits.

        Args:
            query: (B, H, N, D), not scaled, as in ViTDet.
            grid_size: (R, C).
            factor: Of the term.

        Returns:
            (B, H, N, Q) for the queries, and (N, Q) for the keys: 1 at a key's row and at its
            column. Q is R + C, and on a GPU so many zeros more that 8 divides D + Q: for other
            widths PyTorch has no fused kernel there.
        """
        R, C = grid_size
        padding = missing(query.shape[-1] + R + C, query.device)
        grid = query.unflatten(2, grid_size)  # (B, H, R, C, D)
        rows = _by_offset(self.rel_pos_h, R) * factor  # (R, R, D): query, key
        columns = _by_offset(self.rel_pos_w, C) * factor
        of_rows = torch.einsum('bhrcd,rkd->bhrck', grid, rows)
        of_columns = torch.einsum('bhrcd,ckd->bhrck', grid, columns)
        nothing = of_rows.new_zeros(1).expand(*grid.shape[:4], padding)
        of_query = torch.cat((of_rows, of_columns, nothing), dim=-1).flatten(2, 3)
        row = torch.eye(R, dtype=of_query.dtype, device=query.device)[:, None].expand(-1, C, -1)
        column = torch.eye(C, dtype=of_query.dtype, device=query.device).expand(R, -1, -1)
        of_key = torch.cat((row, column), dim=-1).flatten(0, 1)
        return of_query, F.pad(of_key, (0, padding))


def _by_offset(table: Tensor, size: int) -> Tensor:
    """(2 * any - 1, D) table of offsets -> (size, size, D) by place of query and of key."""
    if len(table) != 2 * size - 1:
        table = resize_grid(table, (2 * size - 1, table.shape[1]), 'bilinear')
    place = torch.arange(size, device=table.device)
    return table[place[:, None] - place[None, :] + size - 1]
