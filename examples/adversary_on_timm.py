#!/usr/bin/env python
"""Put the coordinate adversary onto a network of another library: timm's ViT, absolute positions.

    python examples/adversary_on_timm.py my_images

The network keeps what it is; around it come a mask token, a linear layer that predicts the pixels
of each patch, and the adversary, which moves the positions of the masked patches.
"""

import sys

import timm
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from adpe_mm.datasets import Images, MultiCrop, PackCrops, collate_crops
from adpe_mm.models import MultiCropPreprocessor
from adpe_mm.models.adversaries import AbsoluteCoordinate
from adpe_mm.models.layers.position import grid_coordinates, sincos_position
from adpe_mm.models.selfsup.mae_plus import patchify


class MaskedTimm(nn.Module):
    """A timm `VisionTransformer` that predicts its masked patches."""

    def __init__(self, vit: nn.Module, adversary: AbsoluteCoordinate, ratio: float = 0.75) -> None:
        super().__init__()
        self.vit, self.adversary, self.ratio = vit, adversary, ratio
        self.patch_size, width = vit.patch_embed.patch_size[0], vit.embed_dim
        self.mask_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.predict = nn.Linear(width, 3 * self.patch_size**2)
        # Learnt positions are defined at the patches only: take sines, which are everywhere.
        places = grid_coordinates(vit.patch_embed.grid_size)
        self.register_buffer('places', places)  # (N, 2)
        vit.pos_embed.requires_grad = False
        vit.pos_embed[:, 0] = 0
        vit.pos_embed[:, 1:] = sincos_position(places, width)

    def forward(self, images: Tensor) -> Tensor:
        """Mean squared error of the masked patches of (B, 3, H, W), a 0-d tensor."""
        vit, position = self.vit, self.vit.pos_embed[:, 1:]
        x = vit.patch_embed(images)  # (B, N, E)
        B, N, E = x.shape
        order = torch.rand(B, N, device=x.device).argsort(dim=1)
        masked = (order >= int(N * (1 - self.ratio))).unsqueeze(-1)  # (B, N, 1)
        x = torch.where(masked, self.mask_token, x)
        moved = sincos_position(self.adversary.move(self.places), E)  # (N, E)
        x = x + torch.where(masked, moved, position)
        cls = (vit.cls_token + vit.pos_embed[:, :1]).expand(B, -1, -1)
        x = vit.norm(vit.blocks(torch.cat((cls, x), dim=1)))
        error = (self.predict(x[:, 1:]) - patchify(images, self.patch_size)).square().mean(-1)
        return error[masked.squeeze(-1)].mean()


def train(folder: str, epochs: int = 20, eps: float = 1.0) -> tuple[MaskedTimm, list[float]]:
    """Train on crops of a folder's images.

    Args:
        folder: With images.
        epochs: Passes over them.
        eps: How far masked patches may move, in patches.

    Returns:
        The network and the loss of each step.
    """
    vit = timm.models.VisionTransformer(
        img_size=48, patch_size=8, embed_dim=64, depth=4, num_heads=4, num_classes=0
    )
    model = MaskedTimm(vit, AbsoluteCoordinate(norm='l2', eps=eps))
    ascent = list(model.adversary.parameters())
    descent = [p for name, p in model.named_parameters() if not name.startswith('adversary.')]
    optimizer = torch.optim.AdamW(
        [dict(params=descent), dict(params=ascent, maximize=True, weight_decay=0.0, lr=1e-2)], 2e-3
    )
    images = Images(data_root=folder, pipeline=[MultiCrop(size=48, scale=(0.5, 1.0)), PackCrops()])
    loader = DataLoader(images, batch_size=16, shuffle=True, collate_fn=collate_crops)
    normalise, losses = MultiCropPreprocessor(), []
    for _ in range(epochs):
        for batch in loader:
            loss = model(normalise(batch)['inputs'])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()  # the network descends, the adversary ascends
            model.adversary.project()  # back into its ball
            losses.append(loss.item())
        shift = ', '.join(f'{x:.2f}' for x in model.adversary.ape.tolist())
        print(f'loss {losses[-1]:.3f}, masked patches move by ({shift})')
    return model, losses


if __name__ == '__main__':
    train(sys.argv[1])
