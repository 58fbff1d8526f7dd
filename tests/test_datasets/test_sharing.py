"""A run that needs more shared memory than there is says so."""

import shutil

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from adpe_mm.datasets import too_little_shared_memory


class Zeros(Dataset):
    """Samples of 1 MB of pixels and 0.2 MB of classes, beside what is no tensor."""

    def __len__(self):
        return 100

    def __getitem__(self, index):
        torch.rand(())
        pixels = torch.zeros(1_000_000, dtype=torch.uint8)
        return dict(inputs=[pixels], classes=torch.zeros(25_000, dtype=torch.int64), path='a.png')


@pytest.fixture
def free(monkeypatch):
    def set_free(size):
        usage = shutil._ntuple_diskusage(size, 0, size)
        monkeypatch.setattr(shutil, 'disk_usage', lambda folder: usage)

    return set_free


def test_batches_that_wait_are_counted(free):
    loader = DataLoader(Zeros(), batch_size=8, num_workers=3, prefetch_factor=2)
    needed = 2 * 3 * 2 * 8 * 1_200_000  # processes x workers x batches x samples x bytes
    free(needed)
    assert too_little_shared_memory(loader, 2) is None
    free(needed - 1)
    assert 'may take 0.115 GB' in too_little_shared_memory(loader, 2)
    free(64 * 2**20)  # Docker's default
    said = too_little_shared_memory(loader, 2)
    assert 'has 0.0671 GB free' in said and '--shm-size=1g' in said
    free(0)
    assert too_little_shared_memory(DataLoader(Zeros(), batch_size=8)) is None  # no workers


def test_no_generator_notices(free):
    free(0)
    before = torch.get_rng_state()
    assert too_little_shared_memory(DataLoader(Zeros(), num_workers=1))
    assert torch.equal(torch.get_rng_state(), before)
