#!/usr/bin/env python
"""Pretrain a small ViT with AdPE in a plain torch loop, without mmengine's runner or a config.

python examples/train_plain_torch.py my_images
"""

import sys

import torch
from mmengine.logging import MMLogger
from torch.utils.data import DataLoader

from adpe_mm.datasets import Images, MultiCrop, PackCrops, collate_crops
from adpe_mm.models import MAEPlus


def train(folder: str, epochs: int = 20, eps: float = 1.0) -> tuple[MAEPlus, list[float]]:
    """Train on crops of a folder's images.

    Args:
        folder: With images.
        epochs: Passes over them.
        eps: How far relative positions may move, in patches.

    Returns:
        The network and the loss of each step.
    """
    MMLogger.get_current_instance().setLevel('WARNING')  # mmengine logs how each weight begins
    size = dict(img_size=48, patch_size=8, position='rpe', rpe_lookup='interpolate')
    arch = dict(embed_dims=64, num_layers=4, num_heads=4, feedforward_channels=256)
    model = MAEPlus(
        backbone=dict(type='adpe_mm.AdPEPretrainViT', arch=arch, **size),
        neck=dict(type='adpe_mm.AdPEDecoder', embed_dims=64, num_layers=1, num_heads=4),
        adversary=dict(type='adpe_mm.AdversarialPosition', mode='coordinate', norm='l2', eps=eps),
        normalize_target=False,
    )
    model.init_weights()
    ascent = list(model.adversary.parameters())
    descent = [p for name, p in model.named_parameters() if not name.startswith('adversary.')]
    optimizer = torch.optim.AdamW(
        [dict(params=descent), dict(params=ascent, maximize=True, weight_decay=0.0, lr=1e-2)],
        lr=1e-3, betas=(0.9, 0.95), weight_decay=0.05,
    )  # fmt: skip
    images = Images(data_root=folder, pipeline=[MultiCrop(size=48, scale=(0.5, 1.0)), PackCrops()])
    loader = DataLoader(images, batch_size=16, shuffle=True, collate_fn=collate_crops)
    losses = []
    for _ in range(epochs):
        for batch in loader:
            inputs = model.data_preprocessor(batch)['inputs']  # (images * 4 crops, 3, 48, 48)
            loss = model.loss(inputs)['loss']
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()  # the network descends, the adversary ascends
            model.adversary.project()  # back into its ball
            losses.append(loss.item())
        print(f'loss {losses[-1]:.3f}, {model.adversary.state()["size"]:.2f} patches of shift')
    return model, losses


if __name__ == '__main__':
    train(sys.argv[1])
