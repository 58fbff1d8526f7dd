"""What a layer must mind of how it runs: autocast, imagined tensors, torch.compile."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache, wraps

import torch
from torch import Tensor


def without_autocast(device: torch.device) -> AbstractContextManager:
    """A context in which nothing is rounded to a lower precision."""
    # Where it is off already there is nothing to do, which an exported graph would carry along.
    if device.type == 'meta' or not torch.is_autocast_enabled(device.type):  # meta knows none
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def constant(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Keep the results; for torch.compile, which would look through the cache, constants."""

    @lru_cache(maxsize=32)
    def kept(*args) -> Tensor:
        # Outside of inference mode, or they could not be used in training later.
        with torch.inference_mode(False), torch.no_grad():
            return function(*args)

    @wraps(function)
    def call(*args) -> Tensor:
        # Under torch.export tensors are imagined: they must not be kept, nor meet real ones.
        imagined = type(torch.empty(0)) is not Tensor
        return function(*args) if imagined else kept(*args)

    return torch.compiler.assume_constant_result(call)
