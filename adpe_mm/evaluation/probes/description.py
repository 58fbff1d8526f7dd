"""What features are like, without labels: effective rank, reach of the attention, size of tokens.

Letters in shapes: B images, H heads, L tokens (cls, if there is one, and patches), N patches,
R, C rows and columns of the grid, E width.
"""

from dataclasses import dataclass

import torch
from mmengine.dist import all_reduce
from torch import Tensor

from adpe_mm.models import AdPEViT

from .shares import total

LARGEST_ATTENTION = 2**25  # numbers of one block's attention that are held at a time


def effective_rank(features: Tensor) -> float:
    """RankMe (Garrido et al., arXiv 2210.02885, equation 1) of the features of all processes.

    With s the singular values of the (images, E) matrix, p = s / sum(s) + 1e-7, and the rank is
    exp(-sum(p log p)). The paper takes 25,600 images; it cannot exceed their number.

    Args:
        features: (n, E) of this process.
    """
    features = features.double()
    gram = total(features.T @ features)
    singular = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()
    p = singular / singular.sum() + 1e-7
    return (-(p * p.log()).sum()).exp().item()


def attention_distance(weights: Tensor, grid_size: tuple[int, int], patch_size: int) -> Tensor:
    """Mean distance that attention reaches, as in ViT (arXiv 2010.11929, appendix D.7).

    Distances from the query's patch to every patch, weighted by the attention, averaged over
    queries and images. Cls is left out: it has no place. Weights of the patches are made to sum to
    1 without it.

    Args:
        weights: (B, H, L, L), of query and key.
        grid_size: (R, C).
        patch_size: In pixels.

    Returns:
        (H,) in pixels.
    """
    R, C = grid_size
    rows, columns = torch.meshgrid(torch.arange(R), torch.arange(C), indexing='ij')
    places = torch.stack((rows, columns), dim=-1).flatten(0, 1).to(weights)  # (N, 2)
    distances = patch_size * torch.cdist(
        places, places, compute_mode='donot_use_mm_for_euclid_dist'
    )
    extra = weights.shape[-1] - R * C
    weights = weights[:, :, extra:, extra:]
    weights = weights / weights.sum(dim=-1, keepdim=True)
    return (weights * distances).sum(dim=-1).mean(dim=(0, 2))


@dataclass(frozen=True)
class Blocks:
    """What the blocks of a network do.

    Attributes:
        attention_distance: Of each block in pixels, the mean over heads.
        token_norm: L2 norm of the patches that each block returns, the mean over patches.
        largest_norm: The largest norm of a patch that the last block returns, over their mean.
    """

    attention_distance: list[float]
    token_norm: list[float]
    largest_norm: float


@torch.no_grad()
def describe_blocks(model: AdPEViT, inputs: Tensor) -> Blocks:
    """Attention and norms of every block, over the images of all processes.

    Args:
        model: In evaluation mode.
        inputs: (B, channels, h, w) of this process, normalised.
    """
    number = len(model.layers)
    distances, norms = torch.zeros(2, number, dtype=torch.float64, device=inputs.device)
    largest = []

    def attended(index: int):
        def hook(module, arguments):
            x, grid_size = arguments[:2]
            weights = module.weights(x, grid_size)
            found = attention_distance(weights, grid_size, model.patch_size)
            distances[index] += found.mean() * share

        return hook

    def returned(index: int):
        def hook(module, arguments, output):
            found = output[:, model.num_extra_tokens :].norm(dim=-1)
            norms[index] += found.mean() * share
            if index == number - 1:
                largest.append(found.max())

        return hook

    hooks = [
        layer.attn.register_forward_pre_hook(attended(i)) for i, layer in enumerate(model.layers)
    ]
    hooks += [layer.register_forward_hook(returned(i)) for i, layer in enumerate(model.layers)]
    patches = inputs.shape[2] * inputs.shape[3] // model.patch_size**2
    at_a_time = max(1, LARGEST_ATTENTION // (model.num_heads * (patches + 1) ** 2))
    try:
        for part in inputs.split(at_a_time):
            share = len(part)
            model(part)
    finally:
        for hook in hooks:
            hook.remove()
    count = total(distances.new_tensor(len(inputs)))
    distances, norms = total(distances) / count, total(norms) / count
    peak = torch.stack(largest).max()
    all_reduce(peak, 'max')
    return Blocks(distances.tolist(), norms.tolist(), (peak / norms[-1]).item())
