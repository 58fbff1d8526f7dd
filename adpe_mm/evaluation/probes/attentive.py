"""The attentive probe: one learnt query attends over the patches, and a linear layer follows.

It is AIM's (El-Nouby et al., arXiv 2401.08541; apple/ml-aim, aim-v1/aim/v1/torch/layers.py,
`AttentionPoolingClassifier`): tokens standardised without affine, one query for each head, no
feed-forward network. CAE (arXiv 2202.03026) was first to judge masked image modelling so; V-JEPA's
(facebookresearch/jepa, src/models/attentive_pooler.py) has a feed-forward network besides.

Of a single query only the product with the matrix of the keys counts, so this product is what is
learnt, and the patches are averaged before they become values: what a head computes is the same, at
a fraction of the operations.

Letters in shapes: B images, N patches, E width, H heads, D head width, K classes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .shares import Share, standardisation
from .training import train_head

STEPS = 400
BATCH = 128
LR = 2e-3
WEIGHT_DECAY = 0.1


class AttentiveHead(nn.Module):
    """The probe itself. At first it is linear on the mean of the patches, with weights of 0.

    Args:
        embed_dims: E.
        num_heads: H.
        num_classes: K.
        generator: Of the values' matrices, on the CPU.
    """

    def __init__(
        self, embed_dims: int, num_heads: int, num_classes: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        head_dim = embed_dims // num_heads
        values = torch.empty(embed_dims, embed_dims)
        nn.init.xavier_uniform_(values, generator=generator)
        self.query = nn.Parameter(torch.zeros(num_heads, embed_dims))
        self.value = nn.Parameter(values.unflatten(0, (num_heads, head_dim)))  # (H, D, E)
        self.weight = nn.Parameter(torch.zeros(num_classes, embed_dims))
        self.bias = nn.Parameter(torch.zeros(num_classes))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, E) standardised tokens -> (B, K) logits."""
        attention = (tokens @ self.query.T).softmax(dim=1)  # (B, N, H)
        pooled = attention.transpose(1, 2) @ tokens  # (B, H, E)
        values = torch.einsum('bhe,hde->bhd', pooled, self.value)
        return F.linear(values.flatten(1), self.weight, self.bias)


def attentive_predict(
    train: Share, val: Share, num_heads: int, num_classes: int, progress: bool = False
) -> Tensor:
    """Train the probe on the images of all processes, and predict those of this one.

    Args:
        train: ``images`` are tokens (n, N, E), ``targets`` labels (n,).
        val: Likewise.
        num_heads: H.
        num_classes: K.
        progress: Whether a bar is drawn on stderr.

    Returns:
        (n,) labels of `val`.
    """
    mean, deviation = (x.float() for x in standardisation(train.images))
    head = AttentiveHead(
        train.images.shape[-1], num_heads, num_classes, torch.Generator().manual_seed(0)
    ).to(train.images.device)

    def loss(tokens: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(head((tokens - mean) / deviation), labels, reduction='sum')

    with torch.enable_grad():
        train_head(
            head, train, loss, STEPS, BATCH, LR, WEIGHT_DECAY, 'the attentive probe', progress
        )
    with torch.no_grad():
        parts = val.images.split(256)
        return torch.cat([head((tokens - mean) / deviation).argmax(1) for tokens in parts])
