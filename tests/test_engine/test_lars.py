"""LARS against the formula, written for one tensor and in double precision by numpy alone."""

import numpy as np
import pytest
import torch
from mmengine.registry import OPTIMIZERS as MMENGINE_OPTIMIZERS

from adpe_mm.engine import LARS, LayerDecayOptimWrapperConstructor


class PlainLARS:
    """MAE's `util/lars.py`, of one array."""

    def __init__(self, p, momentum, weight_decay, trust):
        self.p, self.m = p.copy(), np.zeros_like(p)
        self.momentum, self.weight_decay, self.trust = momentum, weight_decay, trust

    def step(self, g, lr):
        if self.p.ndim >= 2:
            g = g + self.weight_decay * self.p
            size, length = np.sqrt((self.p**2).sum()), np.sqrt((g**2).sum())
            if size > 0 and length > 0:
                g = g * (self.trust * size / length)
        self.m = self.momentum * self.m + g
        self.p = self.p - lr * self.m


@pytest.mark.parametrize('weight_decay', [0.0, 0.1])
def test_every_step_is_the_formula(weight_decay):
    """With a lr that changes, which is where its place before or after the momentum shows."""
    rng = np.random.default_rng(0)
    shapes = [(5, 3), (4,), (2, 3, 2), ()]
    arrays = [rng.normal(size=shape) for shape in shapes]
    arrays.append(np.zeros((3, 2)))  # a head that begins at 0
    settings = dict(momentum=0.9, weight_decay=weight_decay, trust=0.01)
    plain = [PlainLARS(array, **settings) for array in arrays]
    params = [torch.tensor(array, requires_grad=True) for array in arrays]
    optimizer = LARS(params, lr=1.0, **settings)
    for lr in np.linspace(0.1, 6.4, 20):
        optimizer.param_groups[0]['lr'] = lr
        for number, (param, reference) in enumerate(zip(params, plain, strict=True)):
            # For a while one has a gradient of zeros, which gives no length to adapt to.
            gradient = rng.normal(size=param.shape) * (0 if number == 2 and 1 < lr < 3 else 1)
            param.grad = torch.tensor(gradient)
            reference.step(gradient, lr)
        optimizer.step()
        for param, reference in zip(params, plain, strict=True):
            np.testing.assert_allclose(param.detach(), reference.p, rtol=1e-12, atol=1e-14)


def test_the_length_of_a_step_follows_the_tensor_and_not_its_gradient():
    """A law: without momentum |step| = lr * trust * |p|, whatever the loss is scaled by."""
    for scale in (1e-3, 1.0, 1e3):
        weight, bias = torch.nn.Parameter(torch.ones(3, 4)), torch.nn.Parameter(torch.ones(4))
        optimizer = LARS([weight, bias], lr=2.0, momentum=0.0)
        (scale * (weight.sum() + bias.sum())).backward()
        optimizer.step()
        assert (weight - 1).norm().item() == pytest.approx(2.0 * 1e-3 * 12**0.5, rel=1e-4)
        assert (bias - 1).norm().item() == pytest.approx(2.0 * scale * 4**0.5, rel=1e-4)


def test_it_resumes_and_skips_what_has_no_gradient():
    def train(optimizer, params, steps):
        for i in steps:
            for param in params[:2]:
                param.grad = torch.full_like(param, i + 1.0)
            optimizer.step()

    def start():
        params = [torch.nn.Parameter(torch.ones(shape)) for shape in ((2, 2), (3,), (2, 2))]
        return params, LARS(params, lr=0.5)

    whole, optimizer = start()
    train(optimizer, whole, range(4))
    assert torch.equal(whole[2], torch.ones(2, 2)) and whole[2] not in optimizer.state
    half, optimizer = start()
    train(optimizer, half, range(2))
    state = optimizer.state_dict()
    resumed = [torch.nn.Parameter(param.detach().clone()) for param in half]
    optimizer = LARS(resumed, lr=0.5)
    optimizer.load_state_dict(state)
    train(optimizer, resumed, range(2, 4))
    for a, b in zip(whole, resumed, strict=True):
        assert torch.equal(a, b)


def test_configs_find_it_and_mistakes_are_named():
    net = torch.nn.Linear(3, 2)
    settings = dict(type='adpe_mm.LARS', lr=6.4, weight_decay=0.1)
    wrapper = LayerDecayOptimWrapperConstructor(dict(optimizer=settings))(net)
    assert type(wrapper.optimizer) is LARS
    decays = {g['params'][0].ndim: g['weight_decay'] for g in wrapper.optimizer.param_groups}
    assert decays == {2: 0.1, 1: 0.0}
    with pytest.raises(ValueError, match='LARS.momentum must not be negative, got -1'):
        MMENGINE_OPTIMIZERS.build(dict(settings, params=net.parameters(), momentum=-1))
