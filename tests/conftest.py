import os

import pytest
import torch

import adpe_mm  # noqa: F401  before any test imports mmpretrain, see adpe_mm/compat.py


def pytest_configure(config):
    """Tests are of the CPU, also where there are GPUs, and so are the commands that they start.

    Those that need a GPU are marked, and run by ``-m gpu``.
    """
    if config.getoption('markexpr') != 'gpu':
        os.environ['CUDA_VISIBLE_DEVICES'] = ''


@pytest.fixture(autouse=True)
def seeded():
    """Every test starts from the same random state, and none hogs both cores."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
