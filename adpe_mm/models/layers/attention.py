"""Multi-head self-attention, with relative positions where they are asked for, in windows or not.

Letters in shapes: B batch, H heads, L tokens (cls and patches), R, C rows and columns of the patch
grid, N = R * C patches, D head width, E embedding width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .decomposed_rpe import DecomposedRelativePosition
from .irpe import ImageRelativePosition, Perturbation

# iRPE's term of so many pairs (a head and picture) is held at a time: all of them up to 1448
# tokens, beyond that those of some rows of queries. At 64 x 64 patches and 12 heads a piece is
# 25 MB in bfloat16 where the whole would be 400 MB.
MAX_PAIRS = 2**21
PAIRS_AT_A_TIME = 2**20
# Up to so many keys, products of matrices are the faster way on a CPU (docs/speed.md). More were
# not measured, and there it is memory that counts.
MAX_PRODUCT_TOKENS = 1448


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    """Scaled dot-product attention, by the fastest way there is.

    On a CPU, PyTorch's kernel knows no bias that learns, and products of matrices are faster in
    bfloat16 up to a thousand tokens (docs/speed.md); they round the logits to the dtype of `q`.

    Args:
        q: (B, H, query L, D).
        k: (B, H, key L, D).
        v: (B, H, key L, D or another width).
        bias: Added to the logits, (B, H, query L, key L) in the dtype of `q`; or None.
        scale: Factor of the products.

    Returns:
        (B, H, query L, width of `v`).
    """
    products = q.dtype == torch.bfloat16 or (bias is not None and bias.requires_grad)
    if q.device.type != 'cpu' or not products or k.shape[2] > MAX_PRODUCT_TOKENS:
        return F.scaled_dot_product_attention(q, k, v, bias, scale=scale)
    if scale != 1:
        q = q * scale
    if bias is None:
        logits = q @ k.transpose(-1, -2)
    else:  # added by the product itself
        key = k.flatten(0, 1).transpose(-1, -2)
        logits = torch.baddbmm(bias.flatten(0, 1), q.flatten(0, 1), key).unflatten(0, q.shape[:2])
    return logits.softmax(dim=-1) @ v


class Attention(nn.Module):
    """Self-attention on PyTorch's scaled-dot-product kernels.

    Parameter names follow mmpretrain's `MultiheadAttention` (``qkv``, ``proj``), so that its
    checkpoints fit.

    Args:
        embed_dims: Width of the tokens.
        num_heads: Number of heads; it divides `embed_dims`.
        rpe_lookup: None for no iRPE, else its look-up.
        rpe_scaled_query: Whether iRPE's term takes the scaled query, as in pretraining and in the
            paper. False is what the official fine-tuning code does, kept for parity only.
        decomposed_rpe_size: None, or the (R, C) grid of ViTDet's decomposed relative positions.

    Raises:
        ValueError: If the heads do not divide the width.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        rpe_lookup: str | None = None,
        rpe_scaled_query: bool = True,
        decomposed_rpe_size: tuple[int, int] | None = None,
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
        self.decomposed_rpe = (
            DecomposedRelativePosition(self.head_dim, decomposed_rpe_size)
            if decomposed_rpe_size
            else None
        )

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
        q, k, v, rpe_query, scale = self._project(x, grid_size)
        if self.rpe is None:
            out = attend(q, k, v, None, scale)
        elif L * L <= MAX_PAIRS:
            bias = self.rpe(rpe_query, grid_size, perturbation)
            out = attend(q, k, v, bias, scale)
        else:
            out = self._attend_by_rows(q, k, v, rpe_query, grid_size, perturbation, scale)
        return self.proj(out.transpose(1, 2).reshape(B, L, E))

    def _project(
        self, x: Tensor, grid_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, float]:
        """Query, key and value (B, H, L, D or more), the query of iRPE's term, and the scale."""
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, self.head_dim)).permute(2, 0, 3, 1, 4)
        if x.device.type == 'cpu':
            qkv = qkv.contiguous()  # one copy, where each product would make its own
        q, k, v = qkv.unbind(0)
        scale = self.head_dim**-0.5
        if self.rpe is None and self.decomposed_rpe is None:
            return q, k, v, q, scale
        scaled = q * scale  # once, for the products and for the positions
        rpe_query = scaled if self.rpe_scaled_query else q
        if self.decomposed_rpe is not None:
            of_query, of_key = self.decomposed_rpe(q, grid_size)
            scaled = torch.cat((scaled, of_query), dim=-1)
            k = torch.cat((k, of_key.expand(*k.shape[:2], -1, -1)), dim=-1)
        return scaled, k, v, rpe_query, 1.0

    @torch.no_grad()
    def weights(self, x: Tensor, grid_size: tuple[int, int]) -> Tensor:
        """The attention itself, (B, H, query L, key L), to be looked at."""
        q, k, _, rpe_query, scale = self._project(x, grid_size)
        logits = q @ k.transpose(-1, -2) * scale
        if self.rpe is not None:
            logits = logits + self.rpe(rpe_query, grid_size)
        return logits.softmax(dim=-1)

    def _attend_by_rows(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        rpe_query: Tensor,
        grid_size: tuple[int, int],
        perturbation: Perturbation | None,
        scale: float,
    ) -> Tensor:
        """The same, for some rows of queries at a time; their bias is made again in backward."""
        R, C = grid_size
        num_prefix = q.shape[2] - R * C
        at_a_time = max(1, PAIRS_AT_A_TIME // (C * R * C))

        def attend_rows(q, k, v, rpe_query, rows, perturbation):
            bias = self.rpe.bias_of_rows(rpe_query, grid_size, rows, num_prefix, perturbation)
            return attend(q, k, v, bias, scale)

        # cls, whose term softmax cancels
        outs = [attend(q[:, :, :num_prefix], k, v, None, scale)]
        for start in range(0, R, at_a_time):
            rows = slice(start, min(start + at_a_time, R))
            patches = slice(rows.start * C, rows.stop * C)
            tokens = slice(num_prefix + patches.start, num_prefix + patches.stop)
            part = perturbation
            if perturbation is not None:
                part = perturbation._replace(masked=perturbation.masked[:, patches])
            arguments = q[:, :, tokens], k, v, rpe_query[:, :, tokens], rows, part
            if torch.is_grad_enabled():
                out = checkpoint(
                    attend_rows, *arguments, use_reentrant=False, preserve_rng_state=False
                )
            else:
                out = attend_rows(*arguments)
            outs.append(out)
        return torch.cat(outs, dim=2)


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
