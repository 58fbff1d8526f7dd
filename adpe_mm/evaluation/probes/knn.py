"""The k-NN probe: an image is what its nearest neighbours are.

As in DINO (Caron et al., arXiv 2104.14294; facebookresearch/dino, eval_knn.py): cosine similarity,
the k = 20 nearest images vote, each with weight exp(similarity / 0.07).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

NEIGHBOURS = 20
TEMPERATURE = 0.07
AT_A_TIME = 1024  # images that are compared with all at once


def knn_predict(
    train: Tensor,
    labels: Tensor,
    val: Tensor,
    num_classes: int,
    k: int = NEIGHBOURS,
    temperature: float = TEMPERATURE,
) -> Tensor:
    """Predict labels.

    Args:
        train: (N, E) features that vote.
        labels: (N,) of these.
        val: (n, E) features to predict labels of.
        num_classes: How many labels there are.
        k: Neighbours, or all N if these are fewer.
        temperature: Of the votes.

    Returns:
        (n,) labels.
    """
    train, val = F.normalize(train, dim=1), F.normalize(val, dim=1)
    predicted = []
    for part in val.split(AT_A_TIME):
        similarity, nearest = (part @ train.T).topk(min(k, len(train)), dim=1)
        # Of all votes of an image the same factor may be taken, or exp(1 / 0.07) would be large.
        votes = ((similarity - similarity[:, :1]) / temperature).exp()
        counts = torch.zeros(len(part), num_classes, device=part.device)
        predicted.append(counts.scatter_add_(1, labels[nearest], votes).argmax(dim=1))
    return torch.cat(predicted)
