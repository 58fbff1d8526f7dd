"""Training of a small head on frozen features, by all processes together."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from .shares import Share, bar, total


def train_head(
    head: nn.Module,
    share: Share,
    loss: Callable[[Tensor, Tensor], Tensor],
    steps: int,
    batch_size: int,
    lr: float,
    weight_decay: float,
    title: str,
    progress: bool = False,
) -> None:
    """Train a head with AdamW, whose lr falls to 0 by a cosine after a tenth of warm-up.

    Batches are drawn from the images of all processes: each computes the loss of those that it
    holds, and the gradients are summed. But for rounding, the head does not depend on how many
    processes there are. No generator but one of its own is used.

    Args:
        head: The same in every process.
        share: Of this process.
        loss: Of images and targets of a part of a batch: the sum over the images.
        steps: How many batches.
        batch_size: Images per batch, over all processes.
        lr: Learning rate.
        weight_decay: Of tensors of two axes and more.
        title: What is trained, for the bar.
        progress: Whether a bar is drawn on stderr.
    """
    matrices = [param for param in head.parameters() if param.ndim > 1]
    others = [param for param in head.parameters() if param.ndim <= 1]
    groups = [dict(params=matrices), dict(params=others, weight_decay=0.0)]
    optimizer = torch.optim.AdamW(groups, lr=lr, weight_decay=weight_decay)
    warm_up = max(1, steps // 10)
    place = torch.full((share.total,), -1)  # in this share, of each image of all
    place[share.indices] = torch.arange(len(share.indices))
    generator, left = torch.Generator().manual_seed(0), torch.empty(0, dtype=torch.long)
    batch_size = min(batch_size, share.total)
    shown = bar(f'training {title}', steps, progress)
    for step in range(steps):
        if len(left) < batch_size:
            left = torch.randperm(share.total, generator=generator)
        batch, left = left[:batch_size], left[batch_size:]
        own = place[batch]
        own = own[own >= 0].to(share.images.device)
        rising = (step + 1) / warm_up
        falling = (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up))) / 2
        for group in optimizer.param_groups:
            group['lr'] = lr * (rising if step < warm_up else falling)
        optimizer.zero_grad()
        (loss(share.images[own], share.targets[own]) / batch_size).backward()
        summed = total(torch.cat([param.grad.flatten() for param in head.parameters()]))
        sizes = [param.numel() for param in head.parameters()]
        for param, grad in zip(head.parameters(), summed.split(sizes), strict=True):
            param.grad = grad.view_as(param)
        optimizer.step()
        if shown:
            shown.update()
