"""The norm of a branch: rounded once more at most, and nothing of it in the residual stream."""

import pytest
import torch
import torch.nn.functional as F

from adpe_mm.models.layers.norm import BranchNorm


def make(seed=0):
    torch.manual_seed(seed)
    norm = BranchNorm(96, eps=1e-6)
    torch.nn.init.normal_(norm.weight, mean=1.0, std=0.2)
    torch.nn.init.normal_(norm.bias, std=0.2)
    x = torch.randn(4, 5, 96) * torch.logspace(-1, 2, 96)  # as residual streams have channels
    return norm, x


def results(norm, x, dtype):
    """Residual stream and normed tokens, and gradients of both by tokens, weight and bias."""
    x = x.clone().requires_grad_()
    with torch.autocast('cpu', dtype, enabled=dtype in (torch.bfloat16, torch.float16)):
        kept, normed = norm.branch(x)
    generator = torch.Generator().manual_seed(1)
    first, second = (torch.randn(x.shape, generator=generator) for _ in range(2))
    loss = (kept * first + normed.float() * second).sum()
    return kept, normed, *torch.autograd.grad(loss, [x, norm.weight, norm.bias])


def test_bfloat16_is_rounded_where_a_branch_begins():
    norm, x = make()
    kept, normed, *gradients = results(norm, x, torch.bfloat16)
    assert torch.equal(kept, x) and kept.dtype == torch.float32 and normed.dtype == torch.bfloat16
    assert all(gradient.dtype == torch.float32 for gradient in gradients)
    exact_x = x.double().requires_grad_()
    weight, bias = (p.detach().double().requires_grad_() for p in (norm.weight, norm.bias))
    exact = F.layer_norm(exact_x, (96,), weight, bias, 1e-6)
    # Tokens, weight, bias and result, and with them mean and deviation, are rounded by 2 ** -9.
    size = exact.abs() + bias.abs() + (exact - bias).abs() + weight.abs()
    assert ((normed - exact).abs() / size).max() < 3 * 2**-9
    generator = torch.Generator().manual_seed(1)
    first, second = (torch.randn(x.shape, generator=generator) for _ in range(2))
    loss = (exact_x * first + exact * second).sum()
    expected = torch.autograd.grad(loss, [exact_x, weight, bias])
    for found, right in zip(gradients, expected, strict=True):
        assert (found - right).norm() < 0.01 * right.norm()


def test_the_gradient_of_the_residual_stream_is_not_rounded():
    norm, x = make()
    x.requires_grad_()
    with torch.autocast('cpu', torch.bfloat16):
        kept, normed = norm.branch(x)
    direction = torch.randn(x.shape)
    (kept * direction + 0 * normed).sum().backward()
    assert torch.equal(x.grad, direction)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
def test_otherwise_it_is_a_layer_norm(dtype):
    norm, x = make()
    found = results(norm, x, dtype)
    plain = torch.nn.LayerNorm(96, eps=1e-6)
    plain.load_state_dict(norm.state_dict())
    plain.branch = lambda tokens: (tokens, plain(tokens))
    for ours, theirs in zip(found, results(plain, x, dtype), strict=True):
        assert torch.equal(ours, theirs)


def test_frozen_weights_and_input():
    norm, x = make()
    norm.requires_grad_(False)
    with torch.autocast('cpu', torch.bfloat16):
        assert not norm.branch(x)[1].requires_grad
        kept, normed = norm.branch(x.requires_grad_())
        (kept + normed).sum().backward()
        assert x.grad.isfinite().all()
        norm.requires_grad_(True)
        norm.branch(x.detach())[1].sum().backward()
    assert norm.weight.grad.abs().sum() > 0
