"""Multi-head self-attention, with iRPE where it is asked for."""

import torch.nn.functional as F
from torch import Tensor, nn

from .irpe import ImageRelativePosition, Perturbation


class Attention(nn.Module):
    """Self-attention on PyTorch's scaled-dot-product kernels.

    Parameter names follow mmpretrain's `MultiheadAttention` (``qkv``, ``proj``), so that its
    checkpoints fit.

    Args:
        embed_dims: Width of the tokens.
        num_heads: Number of heads; it divides `embed_dims`.
        rpe_lookup: None for no relative position, else iRPE's look-up.
        rpe_scaled_query: Whether iRPE's term takes the scaled query, as in pretraining and in the
            paper. False is what the official fine-tuning code does, kept for parity only.

    Raises:
        ValueError: If the heads do not divide the width.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        rpe_lookup: str | None = None,
        rpe_scaled_query: bool = True,
    ) -> None:
        super().__init__()
        if embed_dims % num_heads:
            raise ValueError(
                f'num_heads must divide embed_dims, got {num_heads} heads for width {embed_dims}'
            )
        self.num_heads = num_heads
        self.head_dim = embed_dims // num_heads
        self.qkv = nn.Linear(embed_dims, 3 * embed_dims)
        self.proj = nn.Linear(embed_dims, embed_dims)
        self.rpe = ImageRelativePosition(self.head_dim, rpe_lookup) if rpe_lookup else None
        self.rpe_scaled_query = rpe_scaled_query

    def forward(
        self,
        x: Tensor,
        grid_size: tuple[int, int],
        perturbation: Perturbation | None = None,
    ) -> Tensor:
        """Attend.

        Args:
            x: (B, L, embed_dims), patches row by row, the cls token in front if there is one.
            grid_size: Rows and columns of the patches.
            perturbation: What the adversary does to iRPE, or None.

        Returns:
            Tensor of the shape of `x`.
        """
        B, L, E = x.shape
        qkv = self.qkv(x).reshape(B, L, 3, self.num_heads, self.head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (B, H, L, D) each
        bias = None
        if self.rpe is not None:
            rpe_query = q * self.head_dim**-0.5 if self.rpe_scaled_query else q
            bias = self.rpe(rpe_query, grid_size, perturbation)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.proj(out.transpose(1, 2).reshape(B, L, E))
