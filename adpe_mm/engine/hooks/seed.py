"""Randomness as a function of the iteration."""

import random

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from adpe_mm.registry import HOOKS


@HOOKS.register_module()
class IterationSeedHook(Hook):
    """Seeds all generators before each iteration from (seed, rank, iteration).

    Masks, drop path and the like then depend on nothing else, so that a resumed run continues
    exactly in every process, without any state of generators in the checkpoint.
    """

    priority = 'VERY_HIGH'

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        sequence = np.random.SeedSequence((runner.seed, runner.rank, runner.iter))
        torch_seed, numpy_seed, python_seed = (int(n) for n in sequence.generate_state(3))
        torch.manual_seed(torch_seed)  # of all devices
        np.random.seed(numpy_seed)
        random.seed(python_seed)
