"""MAE+ and AdPE in plain torch, step by step: to be read first, and to compare with.

It does what the official code does: shuffles, gathers and restores patches, keeps the attention
matrix, and looks relative positions up per pair (`adpe_mm/models/layers/irpe.py`). It takes the
parameters of a `MAEPlus`, which computes the same loss faster: tests check that, and the benchmark
says how much faster.

Letters in shapes: B crops, H heads, N patches, M of them masked, L = N + 1 tokens with cls,
p patch size, E width of the encoder. Masks are True where a patch is masked.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers.irpe import Perturbation
from .mae_plus import MAEPlus


def patch_places(grid_size: tuple[int, int], device: torch.device) -> Tensor:
    """(N, 2) column and row of each patch."""
    rows, columns = grid_size
    index = torch.arange(rows * columns, device=device)
    return torch.stack((index % columns, index // columns), dim=-1).float()


def sincos(places: Tensor, width: int) -> Tensor:
    """(..., 2) columns and rows -> (..., width): sines and cosines of columns, then of rows."""
    index = torch.arange(width // 4, device=places.device, dtype=torch.float32)
    angles = places.unsqueeze(-1) / 10000 ** (index / (width / 4))  # (..., 2, width / 4)
    x, y = angles.unbind(-2)
    return torch.cat((x.sin(), x.cos(), y.sin(), y.cos()), dim=-1)


def attention(
    attn: nn.Module, x: Tensor, grid_size: tuple[int, int], perturbation: Perturbation | None = None
) -> Tensor:
    """Attention with its matrix, and iRPE's term of every pair, in memory.

    Args:
        attn: An `Attention`.
        x: (B, L, width), with or without cls.
        grid_size: Rows and columns of the patches.
        perturbation: What the adversary does to the relative positions of masked queries, or None.

    Returns:
        (B, L, width).
    """
    B, L, width = x.shape
    qkv = attn.qkv(x).reshape(B, L, 3, attn.num_heads, -1).permute(2, 0, 3, 1, 4)
    query, key, value = qkv[0] * attn.head_dim**-0.5, qkv[1], qkv[2]  # (B, H, L, width / H)
    logits = query @ key.transpose(-2, -1)  # (B, H, L, L)
    if attn.rpe is not None:
        logits = logits + attn.rpe(query, grid_size, perturbation)
    out = logits.softmax(dim=-1) @ value
    return attn.proj(out.transpose(1, 2).reshape(B, L, width))


def blocks(
    layers: nn.ModuleList,
    x: Tensor,
    grid_size: tuple[int, int],
    perturbations: list[Perturbation] | None,
) -> Tensor:
    """(B, L, width) tokens through pre-norm transformer blocks."""
    for i, block in enumerate(layers):
        perturbation = perturbations[i] if perturbations is not None else None
        x = x + attention(block.attn, block.ln1(x), grid_size, perturbation)
        x = x + block.ffn(block.ln2(x))
    return x


def plain_loss(model: MAEPlus, images: Tensor, noise: Tensor) -> Tensor:
    """The loss of `model`.

    Args:
        model: Whose parameters are used, in training mode or not.
        images: (B, channels, H, W), normalised.
        noise: (B, N) that chooses the mask: the patches with the largest noise are masked.

    Returns:
        0-d tensor.
    """
    encoder, decoder, adversary = model.backbone, model.neck, model.adversary
    p = encoder.patch_size
    grid_size = R, C = images.shape[2] // p, images.shape[3] // p

    # Mask: shuffle by the noise, keep the first, put mask tokens behind them, and restore.
    x = encoder.patch_embed.projection(images).flatten(2).transpose(1, 2)
    B, N, E = x.shape
    visible = int(N * (1 - encoder.mask_ratio))
    shuffle = noise.argsort(dim=1)
    restore = shuffle.argsort(dim=1)
    masked = restore >= visible  # (B, N)
    token = encoder.mask_token if adversary.mask_token is None else adversary.mask_token
    x = x.gather(1, shuffle[:, :visible, None].expand(-1, -1, E))
    x = torch.cat((x, token.to(x.dtype).repeat(B, N - visible, 1)), dim=1)
    x = x.gather(1, restore.unsqueeze(-1).expand(-1, -1, E))

    # Encode: all N patches, masked ones where the adversary puts them, and cls at position 0.
    places = patch_places(grid_size, x.device)
    position = sincos(places, E).expand(B, -1, -1)
    moved = adversary.move(places)
    if moved is not None:
        position = torch.where(masked.unsqueeze(-1), sincos(moved, E), position)
    x = torch.cat((encoder.cls_token.expand(B, -1, -1), x + position), dim=1)
    perturbations = adversary.perturbations('encoder', masked, grid_size)
    x = encoder.ln1(blocks(encoder.layers, x, grid_size, perturbations))

    # Decode: positions of its own, which nobody moves but in the relative ones; cls is dropped.
    x = decoder.embed(x)
    x = x + F.pad(sincos(places, x.shape[-1]), (0, 0, 1, 0))
    perturbations = adversary.perturbations('decoder', masked, grid_size)
    x = decoder.ln1(blocks(decoder.layers, x, grid_size, perturbations))
    x = decoder.predict(x)[:, 1:]  # (B, N, p * p * channels)

    # Compare: mean squared error of the masked patches with normalised pixels.
    target = torch.einsum('bcrpsq->brspqc', images.reshape(B, -1, R, p, C, p))
    target = target.reshape(B, N, -1)
    if model.normalize_target:
        mean, var = target.mean(-1, keepdim=True), target.var(-1, keepdim=True)
        target = (target - mean) / (var + 1e-6) ** 0.5
    error = ((x - target) ** 2).mean(dim=-1)  # (B, N)
    return (error * masked).sum() / masked.sum()
