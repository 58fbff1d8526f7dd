"""Our networks equal the plain formulation of the method."""

import pytest
import torch

from adpe_mm.models.selfsup.reference import plain_loss
from tests.helpers import VARIANTS, tiny_model


@pytest.mark.parametrize('dtype, tolerance', [('float32', 1e-5), ('bfloat16', 3e-2)])
@pytest.mark.parametrize('position, mode', VARIANTS)
def test_loss_and_gradients(position, mode, dtype, tolerance):
    torch.manual_seed(0)
    model = tiny_model(position, mode)
    with torch.no_grad():
        for param in model.parameters():
            if param.requires_grad:
                param.add_(0.1 * torch.randn_like(param))
        if mode == 'coordinate':
            for param in model.adversary.parameters():
                param.uniform_(-0.7, 0.7)
    images, noise = torch.randn(3, 3, 16, 24), torch.rand(3, 24)
    results = []
    for compute in (
        lambda: model.loss(images, noise=noise)['loss'],
        lambda: plain_loss(model, images, noise),
    ):
        model.zero_grad()
        with torch.autocast('cpu', torch.bfloat16, enabled=dtype == 'bfloat16'):
            loss = compute()
        loss.backward()
        gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        results.append((loss.detach(), gradients))
    (ours, our_gradients), (plain, plain_gradients) = results
    assert ours.item() == pytest.approx(plain.item(), rel=tolerance)
    assert our_gradients.keys() == plain_gradients.keys()
    for name, gradient in plain_gradients.items():
        scale = gradient.abs().max().clamp(min=1e-3)
        error = (our_gradients[name] - gradient).abs().max() / scale
        assert error < 10 * tolerance, name
