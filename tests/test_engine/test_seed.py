"""Randomness is a function of seed, process and iteration, for every generator."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from adpe_mm.engine import IterationSeedHook

GENERATORS = {
    'torch': lambda: torch.rand(4).tolist(),
    'numpy': lambda: np.random.rand(4).tolist(),
    'python': lambda: [random.random() for _ in range(4)],
}


def draw(name, **runner):
    runner = SimpleNamespace(**{'seed': 0, 'rank': 0, 'iter': 0, **runner})
    IterationSeedHook().before_train_iter(runner, batch_idx=0)
    return GENERATORS[name]()


@pytest.mark.parametrize('name', GENERATORS)
def test_same_iteration_same_numbers_and_any_other_others(name):
    first = draw(name, seed=3, rank=1, iter=5)
    GENERATORS[name]()  # whatever was drawn in between
    assert draw(name, seed=3, rank=1, iter=5) == first
    others = [dict(seed=s, rank=r, iter=i) for s in (3, 5) for r in (1, 3) for i in (1, 3, 5)]
    assert len({tuple(draw(name, **other)) for other in others}) == len(others)


def test_generators_differ_from_each_other():
    assert len({tuple(draw(name)) for name in GENERATORS}) == 3
