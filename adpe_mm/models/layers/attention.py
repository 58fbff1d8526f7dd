"""Multi-head self-attention, with relative positions where they are asked for.

Letters in shapes: B batch, H heads, L tokens (cls and patches), R, C rows and columns of the patch
grid, N = R * C patches, D head width, E embedding width.
"""

import torch
from torch import Tensor, nn

from adpe_mm.errors import UserError

from .decomposed_rpe import DecomposedRelativePosition
from .irpe import ImageRelativePosition, Perturbation
from .irpe_kernels import attend, attend_with_irpe, position_term
from .relative_bias import RelativePositionBias


class Attention(nn.Module):
    """Self-attention on PyTorch's scaled-dot-product kernels.

    Parameter names follow mmpretrain's `MultiheadAttention` (``qkv``, ``proj``), so that its
    checkpoints fit.

    Args:
        embed_dims: Width of the tokens.
        num_heads: Number of heads; it divides `embed_dims`.
        position: 'ape', or 'rpe' for iRPE.
        rpe_lookup: iRPE's look-up, see `ImageRelativePosition`.
        rpe_scaled_query: Whether iRPE's term takes the scaled query, as in pretraining and in the
            paper. False is what the official fine-tuning code does, kept for parity only.
        decomposed_rpe_size: None, or the (R, C) grid of ViTDet's decomposed relative positions.
        rel_pos_bias_size: None, or the (R, C) grid of BEiT's relative position bias, which is for
            attention without iRPE.

    Raises:
        ValueError: If the heads do not divide the width, or for a bias beside iRPE.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        position: str = 'ape',
        rpe_lookup: str | None = None,
        rpe_scaled_query: bool = True,
        decomposed_rpe_size: tuple[int, int] | None = None,
        rel_pos_bias_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        if embed_dims % num_heads:
            raise UserError(
                f'num_heads must divide embed_dims, got {num_heads} heads for width {embed_dims}'
            )
        if position == 'rpe' and rel_pos_bias_size:
            raise UserError(
                "rel_pos_bias is for position='ape': iRPE (position='rpe') has relative positions "
                'of its own'
            )
        self.num_heads = num_heads
        self.head_dim = embed_dims // num_heads
        self.qkv = nn.Linear(embed_dims, 3 * embed_dims)
        self.proj = nn.Linear(embed_dims, embed_dims)
        self.rpe = None
        if position == 'rpe':
            self.rpe = ImageRelativePosition(self.head_dim, rpe_lookup)
        self.rpe_scaled_query = rpe_scaled_query
        self.decomposed_rpe = (
            DecomposedRelativePosition(self.head_dim, decomposed_rpe_size)
            if decomposed_rpe_size
            else None
        )
        self.rel_pos_bias = (
            RelativePositionBias(num_heads, rel_pos_bias_size) if rel_pos_bias_size else None
        )

    @property
    def scale(self) -> float:
        """Factor of the products of queries and keys."""
        return self.head_dim**-0.5

    @property
    def rpe_scale(self) -> float:
        """Factor of iRPE's term."""
        return self.scale if self.rpe_scaled_query else 1.0

    def forward(
        self,
        x: Tensor,
        grid_size: tuple[int, int],
        perturbation: Perturbation | None = None,
    ) -> Tensor:
        """Attend.

        Args:
            x: (B, L, embed_dims), patches row by row, the cls token in front if there is one
                (decomposed relative positions know none).
            grid_size: Rows and columns of the patches.
            perturbation: What the adversary does to iRPE, or None.

        Returns:
            Tensor of the shape of `x`.
        """
        B, L, E = x.shape
        q, k, v, rpe_query = self._project(x, grid_size)
        if self.rpe is None:
            out = attend(q, k, v, self._bias(q, grid_size), self.scale)
        else:
            out = attend_with_irpe(
                q, k, v, rpe_query, self.rpe, grid_size, perturbation, self.scale, self.rpe_scale
            )
        return self.proj(out.transpose(1, 2).reshape(B, L, E))

    def _project(
        self, x: Tensor, grid_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Query, key and value (B, H, L, D or more), and the query (B, H, L, D) of iRPE's term."""
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, self.head_dim))  # (B, L, 3, H, D)
        if x.device.type == 'cpu':
            qkv = qkv.permute(2, 0, 3, 1, 4)
            q, k, v = qkv.contiguous().unbind(0)  # one copy, where each product would make its own
        else:  # the kernels take views, whose gradients become that of `qkv` in one copy
            q, k, v = (part.transpose(1, 2) for part in qkv.unbind(2))
        if self.decomposed_rpe is None:
            return q, k, v, q
        # The scale of the logits is not of the positions.
        of_query, of_key = self.decomposed_rpe(q, grid_size, 1 / self.scale)
        wide = torch.cat((q, of_query), dim=-1)
        k = torch.cat((k, of_key.expand(*k.shape[:2], -1, -1)), dim=-1)
        return wide, k, v, q

    def _bias(self, q: Tensor, grid_size: tuple[int, int]) -> Tensor | None:
        """BEiT's bias of the logits of `q`, (1, H, L, L), shared by all images; or None."""
        if self.rel_pos_bias is None:
            return None
        num_extra_tokens = q.shape[2] - grid_size[0] * grid_size[1]
        return self.rel_pos_bias(grid_size, num_extra_tokens).to(q.dtype).unsqueeze(0)

    @torch.no_grad()
    def weights(self, x: Tensor, grid_size: tuple[int, int]) -> Tensor:
        """The attention itself, (B, H, query L, key L), to be looked at."""
        q, k, _, rpe_query = self._project(x, grid_size)
        logits = q @ k.transpose(-1, -2) * self.scale
        if self.rpe is not None:
            logits = logits + position_term(rpe_query, self.rpe, grid_size, scale=self.rpe_scale)
        if self.rel_pos_bias is not None:
            logits = logits + self._bias(q, grid_size)
        return logits.softmax(dim=-1)
