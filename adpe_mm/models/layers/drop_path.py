"""Stochastic depth whose rate is no constant of compiled code."""

import torch
from torch import Tensor, nn


class DropPath(nn.Module):
    """Skips a branch for some samples (Huang et al., arXiv 1603.09382), in training only.

    Draws and computes what mmcv's and mmengine's `DropPath` do, bit for bit. Their rate is a number
    of each block, for which torch.compile may make a graph of each block, and of the ninth and
    later ones none. Here compiled code gets it as a tensor, so that equal blocks share a graph.

    Args:
        rate: Probability to skip the branch for one sample, in [0, 1).
    """

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.rate = rate
        self.skips = rate > 0
        # Of no dimension, in the host's memory, and no buffer, which would be moved and rounded
        # with the network: so it counts as a number, of full precision beside bfloat16 too.
        self.kept = torch.tensor(1 - rate, dtype=torch.float64, device='cpu')

    def extra_repr(self) -> str:
        return f'rate={self.rate:.4g}'

    def forward(self, branch: Tensor) -> Tensor:
        """Skip the branch for some samples, and scale that of the others, which keeps its mean.

        Args:
            branch: (B, ...).

        Returns:
            Tensor of the same shape.
        """
        if not (self.training and self.skips):
            return branch
        kept = self.kept if torch.compiler.is_compiling() else 1 - self.rate
        shape = (len(branch), *[1] * (branch.ndim - 1))
        noise = torch.rand(shape, dtype=branch.dtype, device=branch.device)
        return branch / kept * (noise + kept).floor()
