"""What each adversary does, against its formula; and that a new kind needs nothing but itself."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from adpe_mm.checkpoints import infer_adversary
from adpe_mm.engine import (
    AdversaryProjectionHook,
    LayerDecayOptimWrapperConstructor,
)
from adpe_mm.evaluation import ReconstructionHook
from adpe_mm.evaluation.drawing import plot_adversary
from adpe_mm.models import Adversary
from adpe_mm.models.adversaries import KINDS, AbsoluteCoordinate
from adpe_mm.models.layers.position import grid_coordinates, sincos_position
from adpe_mm.models.selfsup.reference import plain_loss
from adpe_mm.registry import MODELS
from tests.helpers import VARIANTS, tiny_config, tiny_model

ADVERSARIAL = [variant for variant in VARIANTS if variant[1]]


def adversary(mode='coordinate', position='rpe', lookup='interpolate', **settings):
    """One for a network with heads of width 4 in two encoder blocks, of 3 in a decoder block."""

    def part(*head_dims):
        layers = [SimpleNamespace(attn=SimpleNamespace(head_dim=dim)) for dim in head_dims]
        return SimpleNamespace(layers=layers, embed_dims=8, position=position, rpe_lookup=lookup)

    return MODELS.build(
        dict(
            type='adpe_mm.AdversarialPosition',
            mode=mode,
            encoder=part(4, 4),
            decoder=part(3),
            **settings,
        )
    )


@pytest.mark.parametrize('position, mode', ADVERSARIAL)
def test_a_config_builds_the_class_of_its_mode_and_the_arrays_tell_it(position, mode):
    config = tiny_config(position, mode)
    model = MODELS.build(config)
    assert type(model.adversary) is KINDS[position, mode]
    weights = model.state_dict()
    inferred = infer_adversary(weights)
    assert inferred | config['adversary'] == inferred
    assert type(MODELS.build(dict(config, adversary=inferred)).adversary) is KINDS[position, mode]
    assert infer_adversary(tiny_model(position, None).state_dict()) is None


def test_absolute_kinds_do_what_their_formulas_say():
    places = grid_coordinates((2, 3))
    token, shift = adversary('embedding', 'ape'), adversary('coordinate', 'ape')
    with torch.no_grad():
        token.ape.normal_()
        shift.ape.copy_(torch.tensor([0.5, -2.0]))
    assert token.mask_token.shape == (1, 1, 8) and token.move(places) is None
    assert torch.equal(token.mask_token, token.ape)
    assert shift.mask_token is None
    x, y = shift.move(places).unbind(-1)
    assert torch.equal(x, torch.tensor([0.5, 1.5, 2.5] * 2))  # columns
    assert torch.equal(y, torch.tensor([-2.0] * 3 + [-1.0] * 3))  # rows
    for kind in (token, shift):
        assert kind.perturbations('encoder', torch.ones(1, 6, dtype=torch.bool), (2, 3)) is None


def test_relative_kinds_perturb_each_block_by_its_own_parameter():
    masked = torch.tensor([[True, False, True, True]])
    for mode, field in (('embedding', 'delta'), ('coordinate', 'shift')):
        kind = adversary(mode)
        kind.init_weights()
        for part, shapes in (('encoder', [4, 4]), ('decoder', [3])):
            perturbations = kind.perturbations(part, masked, (2, 2))
            for own, dim, perturbation in zip(
                getattr(kind, part), shapes, perturbations, strict=True
            ):
                assert perturbation.masked is masked and getattr(perturbation, field) is own
                assert own.shape == ((dim, 50) if mode == 'embedding' else (2,))
        assert kind.mask_token is None and kind.move(torch.zeros(4, 2)) is None


def test_embeddings_start_small_and_shifts_at_zero():
    for position in ('ape', 'rpe'):
        shift, embedding = (tiny_model(position, m).adversary for m in ('coordinate', 'embedding'))
        assert all((param == 0).all() for param in shift.parameters())
        values = torch.cat([param.flatten() for param in embedding.parameters()])
        assert values.std().item() == pytest.approx(0.02, rel=0.5) and values.abs().max() < 0.1


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


def test_without_an_adversary_nothing_is_reported_and_nothing_happens():
    model = tiny_model('rpe', None)
    assert model.adversary.state() == {} and not list(model.adversary.parameters())
    model.adversary.project()
    runner = SimpleNamespace(model=model)
    hook = AdversaryProjectionHook()
    hook.before_train(runner)
    hook.after_train_iter(runner, 0)


@pytest.mark.parametrize('position, mode', ADVERSARIAL)
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


def test_absolute_coordinates_need_no_network_of_ours():
    kind = AbsoluteCoordinate(norm='l2', eps=1.0)
    moved = sincos_position(kind.move(grid_coordinates((2, 2))), 8)
    moved[:, 0].sum().backward()  # sines of x
    assert kind.ape.grad[0].item() == pytest.approx(2 + 2 * math.cos(1), rel=1e-6)
    assert kind.ape.grad[1] == 0


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(mode='pixel'), 'adversary.mode'),
        (dict(norm='l1', eps=1.0), 'adversary.norm'),
        (dict(norm='l2', eps=-0.1), 'adversary.eps'),
        (dict(norm='linf'), 'adversary.eps'),
        (dict(norm='linf', eps=float('nan')), 'adversary.eps'),
        (dict(lookup='bucket'), "rpe_lookup='interpolate'"),
    ],
)
def test_mistakes(kwargs, message):
    with pytest.raises(ValueError, match=message):
        adversary(**kwargs)


# A kind that the package knows nothing of: masked patches move away from the centre.


@MODELS.register_module(force=True)
class Zoom(Adversary):
    """The places of masked patches are scaled around the centre of the grid."""

    unit = 'octaves'

    def __init__(self, encoder, decoder, **settings) -> None:
        super().__init__(encoder, decoder, **settings)
        self.exponent = nn.Parameter(torch.zeros(1))

    def move(self, places):
        centre = places.mean(0)
        return centre + (places - centre) * 2**self.exponent

    @torch.no_grad()
    def draw(self, axes, grid_size) -> None:
        x, y = self.move(grid_coordinates(grid_size)).unbind(-1)
        axes.scatter(x, y)


def test_a_new_kind_is_one_class():
    zoom = dict(type='adpe_mm.Zoom', norm='linf', eps=0.25)
    config = dict(tiny_config('ape', None), adversary=zoom)
    model = MODELS.build(config)
    model.init_weights()
    images, noise = torch.randn(3, 3, 16, 24), torch.rand(3, 24)

    # It takes part in pretraining: the loss is that of the positions it gives, by hand here.
    with torch.no_grad():
        model.adversary.exponent.fill_(0.2)
    masked = model.backbone.draw_mask(images, noise).masked
    by_hand = tiny_model('ape', None)
    by_hand.load_state_dict(model.state_dict(), strict=False)
    x, y = np.meshgrid(np.arange(6) - 2.5, np.arange(4) - 1.5)
    places = torch.tensor(np.stack((x * 2**0.2 + 2.5, y * 2**0.2 + 1.5), -1)).float().flatten(0, 1)
    by_hand.adversary.move = lambda _: places
    loss = model.loss(images, noise=noise)['loss']
    torch.testing.assert_close(loss, plain_loss(by_hand, images, noise))
    assert masked.sum() == 3 * 18

    # It climbs the loss and is projected.
    wrapper = LayerDecayOptimWrapperConstructor(
        dict(optimizer=dict(type='SGD', lr=1e-3)), dict(ascent=dict(lr=1e4))
    )(model)
    gradient = torch.autograd.grad(loss, model.adversary.exponent, retain_graph=True)[0]
    logged = {}
    hub = SimpleNamespace(update_scalar=logged.__setitem__)
    runner = SimpleNamespace(model=model, optim_wrapper=wrapper, message_hub=hub, iter=0)
    hook = AdversaryProjectionHook(interval=1)
    hook.before_train(runner)
    wrapper.update_params(loss)
    border = 0.25 * gradient.sign()  # across it, by that learning rate
    torch.testing.assert_close(model.adversary.exponent.detach(), border)
    hook.after_train_iter(runner, 0)
    assert logged['train/adversary/size'] == 0.25

    # It is drawn.
    drawn = {}
    runner = SimpleNamespace(
        model=model.train(),
        visualizer=SimpleNamespace(add_image=lambda name, image, step: drawn.update({name: image})),
        epoch=0,
        max_epochs=1,
        train_dataloader=SimpleNamespace(
            dataset=[torch.zeros(1, 3, 16, 24, dtype=torch.uint8)] * 3,
            collate_fn=lambda samples: dict(inputs=torch.stack(samples)),
        ),
    )
    hook = ReconstructionHook()
    hook.before_train(runner)
    hook.after_train_epoch(runner)
    assert drawn['adversary'].shape == (400, 800, 3)
    with torch.no_grad():
        model.adversary.exponent.neg_()
    assert not np.array_equal(drawn['adversary'], plot_adversary(model.adversary, (4, 6)))
