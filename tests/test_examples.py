"""The examples learn, and their adversary climbs to the border of its ball and stays there."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

EXAMPLES = sorted((Path(__file__).parents[1] / 'examples').glob('*.py'))
EPS = 0.05


@pytest.fixture
def images(tmp_path):
    """Smooth ones: neighbouring patches tell of each other."""
    rng = np.random.default_rng(0)
    for i in range(32):
        pixels = Image.fromarray(rng.integers(0, 255, (3, 3, 3), dtype=np.uint8))
        pixels.resize((64, 64), Image.Resampling.BICUBIC).save(tmp_path / f'{i}.png')
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize('path', EXAMPLES, ids=lambda path: path.stem)
def test_loss_falls_and_the_adversary_stays_in_its_ball(path, images):
    model, losses = runpy.run_path(str(path))['train'](str(images), epochs=10, eps=EPS)
    assert np.mean(losses[-4:]) < 0.8 * np.mean(losses[:2])
    sizes = [torch.linalg.vector_norm(p).item() for p in model.adversary.parameters()]
    assert max(sizes) == pytest.approx(EPS, rel=1e-4)
    assert all(size <= EPS * (1 + 1e-6) for size in sizes)
