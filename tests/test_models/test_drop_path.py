"""Our stochastic depth is mmcv's."""

import pytest
import torch
from mmcv.cnn.bricks import DropPath as MMCVDropPath

from adpe_mm.models.layers.drop_path import DropPath


@pytest.mark.parametrize('compiled', [False, True])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('rate', [0.0, 1 / 30, 0.5])
def test_bit_for_bit(rate, dtype, compiled):
    x = torch.randn(64, 5, 3, dtype=dtype)
    ours, theirs = DropPath(rate), MMCVDropPath(rate)
    if compiled:
        ours.compile(backend='eager')
    results = []
    for drop_path in (ours, theirs):
        torch.manual_seed(1)
        branch = x.clone().requires_grad_()
        out = drop_path(branch)
        out.float().square().sum().backward()
        results.append((out, branch.grad, torch.rand(1)))
    for mine, other in zip(*results, strict=True):
        assert mine.dtype == other.dtype and torch.equal(mine, other)
    skipped = (results[0][0] == 0).flatten(1).all(dim=1)
    assert skipped.float().mean().item() == pytest.approx(rate, abs=0.15)
    assert torch.equal(ours.eval()(x), x)
    assert not ours.state_dict()
