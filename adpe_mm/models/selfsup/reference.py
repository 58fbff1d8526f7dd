"""MAE+ and AdPE written plainly, with public calls of torch only: the baseline of benchmark.py.

It does what the official code does, step by step: shuffles, gathers and restores patches, keeps the
attention matrix, and samples the table of relative positions for every pair and channel. It takes
the parameters of a `MAEPlus`, so that both compute the same loss, which the tests check.

Letters in shapes: B crops, H heads, L tokens with cls, N patches, D head width, E width.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adpe_mm.models import MAEPlus


def sincos(places: Tensor, width: int) -> Tensor:
    """(..., 2) columns and rows -> (..., width): sines and cosines of columns, then of rows."""
    index = torch.arange(width // 4, device=places.device, dtype=torch.float32)
    angles = places.unsqueeze(-1) / 10000 ** (index / (width / 4))  # (..., 2, width / 4)
    x, y = angles.unbind(-2)
    return torch.cat((x.sin(), x.cos(), y.sin(), y.cos()), dim=-1)


def places_of(side: int, device: torch.device) -> Tensor:
    """(N, 2) column and row of each patch of a square grid."""
    index = torch.arange(side * side, device=device)
    return torch.stack((index % side, index // side), dim=-1).float()


def piecewise(offset: Tensor) -> Tensor:
    """iRPE's piecewise index function, before rounding."""
    size = offset.abs()
    far = 1.9 + torch.log(size.clamp(min=1.9) / 1.9) / math.log(15.2 / 1.9) * 1.9
    return torch.where(size <= 1.9, offset, offset.sign() * far)


def bucket_bias(query: Tensor, table: Tensor, side: int) -> Tensor:
    """(B, H, L, L) position term by a table of buckets: scores of all 50, one gathered a pair."""
    places = places_of(side, query.device)
    offset = places[:, None] - places[None, :]  # (N, N, 2) columns, rows
    index = piecewise(offset).round().clamp(-3, 3).long() + 3
    bucket = torch.full((side * side + 1, side * side + 1), 49, device=query.device)
    bucket[1:, 1:] = index[..., 1] * 7 + index[..., 0]
    score = query @ table  # (B, H, L, 50)
    return score.gather(-1, bucket.expand(*score.shape[:2], -1, -1))


def sampled_bias(
    query: Tensor, table: Tensor, side: int, shift: Tensor | None, masked: Tensor
) -> Tensor:
    """(B, H, L, L) position term by sampling the table at real offsets, moved if masked."""
    places = places_of(side, query.device).flip(-1)  # rows, columns
    offset = places[:, None] - places[None, :]  # (N, N, 2)
    N, D = len(places), table.shape[0]

    def term(moved: Tensor) -> Tensor:
        point = piecewise(moved).clamp(-3.8, 3.8) / 3.8  # rows are the sampler's x
        grid = table[:, :49].reshape(1, D, 7, 7)
        sampled = F.grid_sample(grid.float(), point[None], align_corners=False)[0]  # (D, N, N)
        return torch.einsum('bhid,dij->bhij', query[:, :, 1:].float(), sampled)

    bias = term(offset)
    if shift is not None:
        bias = torch.where(masked[:, None, :, None], term(offset + shift), bias)
    cls = query @ table[:, 49]  # (B, H, L)
    whole = cls.unsqueeze(-1).repeat(1, 1, 1, N + 1)
    whole[:, :, 1:, 1:] = bias.to(whole.dtype)
    return whole


def attention(
    attn: nn.Module, x: Tensor, side: int, adversarial: Tensor | None, masked: Tensor
) -> Tensor:
    """Attention with its matrix in memory; what is adversarial is a shift or added to the table."""
    B, L, E = x.shape
    qkv = attn.qkv(x).reshape(B, L, 3, attn.num_heads, -1).permute(2, 0, 3, 1, 4)
    query, key, value = qkv[0] * attn.head_dim**-0.5, qkv[1], qkv[2]
    logits = query @ key.transpose(-2, -1)
    if attn.rpe is not None:
        is_shift = adversarial is not None and adversarial.ndim == 1
        if attn.rpe.lookup == 'bucket':
            logits = logits + bucket_bias(query, attn.rpe.table, side)
        else:
            shift = adversarial if is_shift else None
            logits = logits + sampled_bias(query, attn.rpe.table, side, shift, masked)
        if adversarial is not None and not is_shift:
            rows = masked[:, None, :, None]
            delta = adversarial.expand(-1, 50)
            extra = bucket_bias(query, delta, side)[:, :, 1:] * rows
            logits = logits + F.pad(extra, (0, 0, 1, 0))
    out = logits.softmax(dim=-1) @ value
    return attn.proj(out.transpose(1, 2).reshape(B, L, E))


def blocks(layers, x: Tensor, side: int, adversarial, masked: Tensor) -> Tensor:
    for i, block in enumerate(layers):
        own = adversarial[i] if adversarial is not None else None
        x = x + attention(block.attn, block.ln1(x), side, own, masked)
        x = x + block.ffn(block.ln2(x))
    return x


def plain_loss(model: MAEPlus, images: Tensor, noise: Tensor) -> Tensor:
    """The loss of `model` on square crops.

    Args:
        model: Whose parameters are used, in training mode or not.
        images: (B, 3, h, h), normalised.
        noise: (B, N) that chooses the mask.

    Returns:
        0-d tensor.
    """
    encoder, decoder, adversary = model.backbone, model.neck, model.adversary
    p = encoder.patch_size
    side = images.shape[-1] // p
    x = encoder.patch_embed.projection(images).flatten(2).transpose(1, 2)
    B, N, E = x.shape
    kept = int(N * (1 - encoder.mask_ratio))

    order = noise.argsort(dim=1)
    restore = order.argsort(dim=1)
    visible = x.gather(1, order[:, :kept, None].expand(-1, -1, E))
    token = encoder.mask_token
    if adversary is not None and adversary.mask_token is not None:
        token = adversary.mask_token
    x = torch.cat((visible, token.to(x.dtype).repeat(B, N - kept, 1)), dim=1)
    x = x.gather(1, restore.unsqueeze(-1).expand(-1, -1, E))
    masked = torch.ones(B, N, device=x.device)
    masked[:, :kept] = 0
    masked = masked.gather(1, restore).bool()

    places = places_of(side, x.device)
    position = sincos(places, E).expand(B, -1, -1)
    if adversary is not None and adversary.ape_shift is not None:
        moved = sincos(places + adversary.ape_shift, E)
        position = torch.where(masked.unsqueeze(-1), moved, position)
    x = torch.cat((encoder.cls_token.expand(B, -1, -1), x + position), dim=1)
    of_encoder = of_decoder = None
    if adversary is not None and adversary.position == 'rpe':
        of_encoder, of_decoder = adversary.encoder, adversary.decoder
    x = encoder.ln1(blocks(encoder.layers, x, side, of_encoder, masked))

    x = decoder.embed(x)
    x = x + F.pad(sincos(places, x.shape[-1]), (0, 0, 1, 0))
    x = decoder.predict(decoder.ln1(blocks(decoder.layers, x, side, of_decoder, masked)))[:, 1:]

    target = torch.einsum('bchpwq->bhwpqc', images.reshape(B, 3, side, p, side, p))
    target = target.reshape(B, N, p * p * 3)
    if model.normalize_target:
        mean, var = target.mean(-1, keepdim=True), target.var(-1, keepdim=True)
        target = (target - mean) / (var + 1e-6) ** 0.5
    error = ((x - target) ** 2).mean(dim=-1)
    return (error * masked).sum() / masked.sum()
