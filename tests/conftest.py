import pytest
import torch

import adpe_mm  # noqa: F401  before any test imports mmpretrain, see adpe_mm/compat.py


@pytest.fixture(autouse=True)
def seeded():
    """Every test starts from the same random state, and none hogs both cores."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
