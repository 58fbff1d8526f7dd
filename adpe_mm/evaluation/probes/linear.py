"""The linear probe: ridge regression to the labels, in closed form.

As the few-shot evaluation of ViT (Dosovitskiy et al., arXiv 2010.11929, section 4.1;
google-research/big_vision, big_vision/evaluators/fewshot_lsr.py): features are standardised, and
mapped to targets of +1 for the class and -1 for all others by regularised least squares. There the
strength of the regularisation is fixed; here it is the one with the smallest error on each training
image when the others are fitted (leave-one-out), which the same decomposition gives.

Letters in shapes: N images in all processes, n of them in this one, E width, K classes.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .shares import standardisation, total

# Strengths that are tried, relative to N: that of features of variance 1.
STRENGTHS = tuple(10.0**power for power in range(-5, 2))


class Ridge(NamedTuple):
    """A fitted probe.

    Attributes:
        mean: (E,) of the training features.
        deviation: (E,) of these.
        weight: (E, K).
        bias: (K,).
        strength: The one that was chosen.
    """

    mean: Tensor
    deviation: Tensor
    weight: Tensor
    bias: Tensor
    strength: float

    def __call__(self, features: Tensor) -> Tensor:
        """(n, K) scores of (n, E) features."""
        return (features.double() - self.mean) / self.deviation @ self.weight + self.bias


def fit_ridge(
    features: Tensor,
    labels: Tensor,
    num_classes: int,
    strengths: tuple[float, ...] = STRENGTHS,
) -> Ridge:
    """Fit the probe on the images of all processes.

    With X the standardised features and Y the targets less their mean, the weights are
    (X'X + strength N)^-1 X'Y; the bias, which is not regularised, is the mean of the targets. An
    image whose row of X (X'X + strength N)^-1 X' has h on the diagonal is predicted without itself
    with the error (with itself) / (1 - h - 1 / N).

    Args:
        features: (n, E) of this process.
        labels: (n,) of these.
        num_classes: K.
        strengths: Those that are tried.
    """
    mean, deviation = standardisation(features)
    X = (features.double() - mean) / deviation  # (n, E)
    Y = 2 * F.one_hot(labels, num_classes).double() - 1  # (n, K)
    N = total(X.new_tensor(len(X)))
    bias = total(Y.sum(dim=0)) / N
    Y = Y - bias
    values, vectors = torch.linalg.eigh(total(X.T @ X))
    rotated = X @ vectors  # (n, E)
    target = total(rotated.T @ Y)  # (E, K)
    errors = []
    for strength in strengths:
        inverse = 1 / (values.clamp(min=0) + strength * N)  # (E,)
        left = Y - rotated @ (inverse[:, None] * target)
        leverage = (rotated.square() * inverse).sum(dim=1, keepdim=True) + 1 / N
        errors.append(total((left / (1 - leverage)).square().sum()))
    best = int(torch.stack(errors).argmin())
    inverse = 1 / (values.clamp(min=0) + strengths[best] * N)
    weight = vectors @ (inverse[:, None] * target)
    return Ridge(mean, deviation, weight, bias, strengths[best])
