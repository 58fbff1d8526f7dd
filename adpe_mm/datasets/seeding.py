"""The generators that everybody draws from: of Python, numpy and torch, in one process."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def seed_generators(*numbers: int) -> None:
    """Make what the generators of the host draw next a function of some numbers.

    Args:
        *numbers: Each of at most 64 bits.
    """
    # Python's own seeding mixes as many bits as it is given, at a third of the time that numpy's
    # `SeedSequence` takes. The leading 1 makes all sequences as long as they look.
    whole = 1
    for number in numbers:
        whole = whole << 64 | number
    random.seed(whole)
    np.random.seed(random.getrandbits(32))
    torch.default_generator.manual_seed(random.getrandbits(63))  # not those of the GPUs


@contextmanager
def kept_generators() -> Iterator[None]:
    """Leave the generators of the host behind as they were."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
