import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adpe_mm.models import AdversarialPosition
from tests.helpers import VARIANTS, tiny_model


def adversary(mode='coordinate', position='rpe', **kwargs):
    return AdversarialPosition(
        mode,
        position=position,
        embed_dims=8,
        encoder_head_dims=[4, 4],
        decoder_head_dims=[3],
        **kwargs,
    )


@settings(max_examples=60, deadline=None)
@given(
    norm=st.sampled_from(['l2', 'linf']),
    eps=st.floats(0, 10, width=32),
    size=st.floats(0, 1e4, width=32),
    seed=st.integers(0, 2**31),
    mode=st.sampled_from(['embedding', 'coordinate']),
)
def test_projection_never_exceeds_its_radius(norm, eps, size, seed, mode):
    module = adversary(mode, norm=norm, eps=eps)
    generator = torch.Generator().manual_seed(seed)
    before = []
    with torch.no_grad():
        for param in module.parameters():
            param.copy_(size * torch.randn(param.shape, generator=generator))
            before.append(param.clone())
    module.project()
    for param, was in zip(module.parameters(), before, strict=True):
        reach = param.norm() if norm == 'l2' else param.abs().max()
        assert reach <= eps * (1 + 1e-5)
        if norm == 'l2':  # the nearest point of a ball lies on the ray through the centre
            assert (param * was >= 0).all()
            if was.norm() <= eps:
                torch.testing.assert_close(param, was)
        else:
            inside = was.abs() <= eps
            assert torch.equal(param[inside], was[inside])


def test_no_projection_and_zero_parameters():
    module = adversary(norm=None)
    with torch.no_grad():
        next(module.parameters()).fill_(1e6)
    module.project()
    assert next(module.parameters()).abs().max() == 1e6
    zero = adversary(norm='l2', eps=0.0)
    zero.project()  # the official code divides 0 by 0 here
    assert all((param == 0).all() for param in zero.parameters())


def test_state_reports_size_and_border():
    module = adversary(norm='linf', eps=0.5)
    with torch.no_grad():
        for i, param in enumerate(module.parameters()):
            param.copy_(torch.tensor([0.1 * i, -3.0 * i]))
    module.project()
    state = module.state()
    assert state['size'] == 0.5
    assert state['projected'] == pytest.approx(2 / 3)  # the first stays at 0
    assert 'projected' not in adversary(norm=None).state()


@pytest.mark.parametrize('position, mode', [v for v in VARIANTS if v[1]])
def test_ascent_raises_the_loss(position, mode):
    model = tiny_model(position, mode).double()
    if position == 'rpe':
        for layer in [*model.backbone.layers, *model.neck.layers]:
            torch.nn.init.normal_(layer.attn.rpe.table)
    if mode == 'coordinate':  # away from 0, where the interpolation has a kink
        for param in model.adversary.parameters():
            torch.nn.init.constant_(param, 0.3)
    images, noise = torch.randn(3, 3, 16, 24).double(), torch.rand(3, 24)
    loss = model.loss(images, noise=noise)['loss']
    params = list(model.adversary.parameters())
    grads = torch.autograd.grad(loss, params)
    square = sum((grad**2).sum() for grad in grads)
    step = 1e-3 / square.sqrt()
    with torch.no_grad():
        for param, grad in zip(params, grads, strict=True):
            param.add_(step * grad)
        raised = model.loss(images, noise=noise)['loss']
    # To first order the loss rises by step * |grad|^2.
    assert (raised - loss).item() == pytest.approx((step * square).item(), rel=0.1)


def test_embedding_on_rpe_is_seen_by_softmax_and_the_official_form_is_not():
    noise, images = torch.rand(2, 24), torch.randn(2, 3, 16, 24)
    largest = {}
    for per_bucket in (True, False):
        torch.manual_seed(1)
        model = tiny_model('rpe', 'embedding', per_bucket=per_bucket)
        model.loss(images, noise=noise)['loss'].backward()
        network = max(p.grad.abs().max() for p in model.backbone.parameters() if p.requires_grad)
        ours = max(p.grad.abs().max() for p in model.adversary.parameters())
        largest[per_bucket] = (ours / network).item()
    assert largest[True] > 1e-4
    assert largest[False] < 1e-7


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(mode='pixel'), 'adversary.mode'),
        (dict(norm='l1', eps=1.0), 'adversary.norm'),
        (dict(norm='l2', eps=-0.1), 'adversary.eps'),
        (dict(norm='linf'), 'adversary.eps'),
        (dict(norm='linf', eps=float('nan')), 'adversary.eps'),
    ],
)
def test_mistakes(kwargs, message):
    with pytest.raises(ValueError, match=message):
        adversary(**kwargs)
