"""BEiT's relative position bias (Bao et al., arXiv 2106.08254), which learns in fine-tuning only.

The logit of query i and key j in head h gains ``table[h, row_i - row_j, col_i - col_j]``. It does
not depend on the image, so one bias serves the whole batch.

Letters in shapes: H heads, R, C rows and columns of the grid, N = R * C patches, L tokens.
"""

import torch
from torch import Tensor, nn

from .position import resize_grid


class RelativePositionBias(nn.Module):
    """One number for each offset and head, 0 at first: the network begins as it was pretrained.

    The last three rows of the table are BEiT's for pairs with the cls token: cls as query, cls as
    key, and cls with itself. Without a cls token nothing reads them.

    Args:
        num_heads: Number of heads.
        size: (R, C) of the grid that the table is made for; for another one it is interpolated
            linearly, as absolute positions and `DecomposedRelativePosition` are.
    """

    def __init__(self, num_heads: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = tuple(size)
        offsets = (2 * size[0] - 1) * (2 * size[1] - 1)
        self.table = nn.Parameter(torch.zeros(offsets + 3, num_heads))

    def forward(self, grid_size: tuple[int, int], num_extra_tokens: int) -> Tensor:
        """The bias of all logits.

        Args:
            grid_size: (R, C).
            num_extra_tokens: Number of cls tokens, 0 or 1, in front of the patches.

        Returns:
            (H, L, L): head, query, key.
        """
        R, C = grid_size
        table = self.table.T[:, :-3].unflatten(1, [2 * side - 1 for side in self.size])
        table = resize_grid(table, (2 * R - 1, 2 * C - 1), 'bilinear')
        # Query (r, c) sees the window of the table that begins there, its keys in reverse order.
        bias = table.unfold(1, R, 1).unfold(2, C, 1).flip(3, 4).flatten(3).flatten(1, 2)
        if not num_extra_tokens:
            return bias
        of_query, of_key, of_both = self.table[-3:, :, None, None]
        N = R * C
        of_cls = torch.cat((of_both, of_query.expand(-1, -1, N)), dim=2)
        of_patches = torch.cat((of_key.expand(-1, N, -1), bias), dim=2)
        return torch.cat((of_cls, of_patches), dim=1)
