import math

import pytest
import torch
from mmengine.registry import PARAM_SCHEDULERS

from adpe_mm.engine import (
    AdPERunner,
    AdversaryProjectionHook,
    AmpOptimWrapper,
    LayerDecayOptimWrapperConstructor,
)
from tests.helpers import VARIANTS, tiny_model

ADAMW = dict(type='AdamW', lr=1e-3, weight_decay=0.05, betas=(0.9, 0.95))


def build(model, paramwise_cfg=None, **wrapper):
    constructor = LayerDecayOptimWrapperConstructor(
        dict(dict(optimizer=ADAMW), **wrapper), paramwise_cfg
    )
    return constructor(model)


def settings_of(model, wrapper):
    """Group of each parameter by name."""
    names = {id(param): name for name, param in model.named_parameters()}
    return {
        names[id(param)]: group
        for group in wrapper.optimizer.param_groups
        for param in group['params']
    }


@pytest.mark.parametrize('position, mode', VARIANTS)
def test_groups_of_pretraining(position, mode):
    model = tiny_model(position, mode)
    wrapper = build(model, dict(ascent=dict(lr=5e-3)))
    groups = settings_of(model, wrapper)
    trainable = {n for n, p in model.named_parameters() if p.requires_grad}
    assert set(groups) == trainable
    assert len(wrapper.optimizer.param_groups) == (3 if mode else 2)
    for name, group in groups.items():
        if name.startswith('adversary.'):
            assert (group['maximize'], group['lr'], group['weight_decay']) == (True, 5e-3, 0)
            continue
        assert not group['maximize'] and group['lr'] == 1e-3
        one_dimensional = name.endswith('bias') or '.ln' in name
        assert group['weight_decay'] == (0 if one_dimensional else 0.05), name
    if position == 'rpe':
        assert groups['backbone.layers.0.attn.rpe.table']['weight_decay'] == 0.05
    assert groups['backbone.cls_token']['weight_decay'] == 0.05


def test_layer_decay_follows_the_published_rule():
    model = tiny_model('rpe', None)
    model.backbone.pos_embed.requires_grad = True
    wrapper = build(model, dict(layer_decay_rate=0.65, no_decay=['pos_embed', 'cls_token']))
    groups = settings_of(model, wrapper)
    # Two blocks: depths 0 (stem), 1, 2, and 3 for all that follows.
    for name, depth in {
        'backbone.cls_token': 0,
        'backbone.pos_embed': 0,
        'backbone.patch_embed.projection.bias': 0,
        'backbone.layers.0.attn.qkv.weight': 1,
        'backbone.layers.1.attn.rpe.table': 2,
        'backbone.ln1.weight': 3,
        'neck.layers.0.attn.qkv.weight': 3,
    }.items():
        assert groups[name]['lr'] == pytest.approx(1e-3 * 0.65 ** (3 - depth)), name
    assert groups['backbone.pos_embed']['weight_decay'] == 0
    assert groups['backbone.cls_token']['weight_decay'] == 0
    assert groups['backbone.layers.1.attn.rpe.table']['weight_decay'] == 0.05
    assert len(wrapper.optimizer.param_groups) == 8  # four depths, with and without weight decay


def test_adversary_climbs_and_network_descends():
    model = tiny_model('ape', 'coordinate')
    wrapper = build(model)
    images, noise = torch.randn(4, 3, 16, 24), torch.rand(4, 24)
    loss = model.loss(images, noise=noise)['loss']
    grads = torch.autograd.grad(
        loss, [model.adversary.ape, model.neck.predict.bias], retain_graph=True
    )
    before = [model.adversary.ape.clone(), model.neck.predict.bias.clone()]
    wrapper.update_params(loss)
    # AdamW's first step is lr * sign(gradient), up for one and down for the other.
    torch.testing.assert_close(model.adversary.ape, before[0] + 1e-3 * grads[0].sign())
    torch.testing.assert_close(model.neck.predict.bias, before[1] - 1e-3 * grads[1].sign())


def test_accumulated_gradients_equal_one_large_batch():
    images, noise = torch.randn(4, 3, 16, 24), torch.rand(4, 24)
    weights = []
    for accumulated in (1, 2):
        torch.manual_seed(0)
        model = tiny_model('rpe', 'coordinate')
        wrapper = build(model, accumulative_counts=accumulated)
        for part in range(accumulated):
            share = slice(part * 4 // accumulated, (part + 1) * 4 // accumulated)
            wrapper.update_params(model.loss(images[share], noise=noise[share])['loss'])
        weights.append(model.neck.predict.weight.detach().clone())
    torch.testing.assert_close(*weights, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    'groups, moves', [('all', (1, 1)), ('descent', (1, 0)), ('ascent', (0, 1))]
)
def test_schedules_of_one_kind_of_group(groups, moves):
    model = tiny_model('ape', 'coordinate')
    wrapper = build(model, dict(ascent=dict(lr=2e-3)))
    schedule = PARAM_SCHEDULERS.build(
        dict(type='adpe_mm.CosineAnnealingLR', T_max=8, groups=groups),
        default_args=dict(optimizer=wrapper),
    )
    for _ in range(2):
        wrapper.step()
        schedule.step()
    factor = (1 + math.cos(math.pi * 2 / 8)) / 2
    for group in wrapper.optimizer.param_groups:
        ascends = group['maximize']
        start = 2e-3 if ascends else 1e-3
        assert group['lr'] == pytest.approx(start * (factor if moves[ascends] else 1))


def test_scale_lr_counts_accumulation():
    model = tiny_model('ape', 'coordinate')
    wrapper = build(model, dict(ascent=dict(lr=4e-3)), accumulative_counts=4)

    class Stub:
        world_size, _train_dataloader = 2, dict(batch_size=16)
        logger = type('Logger', (), dict(info=lambda self, text: setattr(Stub, 'said', text)))()

    AdPERunner.scale_lr(Stub(), wrapper, dict(enable=True, base_batch_size=256))
    assert [group['lr'] for group in wrapper.optimizer.param_groups] == [5e-4, 5e-4, 2e-3]
    assert 'global batch 128 = 2 processes x 16 x 4 accumulated' in Stub.said
    AdPERunner.scale_lr(Stub(), wrapper, dict(enable=False, base_batch_size=1))
    assert wrapper.param_groups[0]['lr'] == 5e-4


def test_bfloat16_on_a_cpu_has_no_loss_scale():
    model = tiny_model()
    wrapper = build(model, type='adpe_mm.AmpOptimWrapper')
    assert isinstance(wrapper, AmpOptimWrapper)
    with wrapper.optim_context(model):
        assert torch.get_autocast_dtype('cpu') == torch.bfloat16 and torch.is_autocast_enabled(
            'cpu'
        )
        loss = model.loss(torch.randn(2, 3, 16, 24))['loss']
    before = model.neck.predict.weight.clone()
    wrapper.update_params(loss)
    assert not torch.equal(before, model.neck.predict.weight)
    wrapper.load_state_dict(wrapper.state_dict())
    wrapper = build(model, type='adpe_mm.AmpOptimWrapper', dtype='float32')
    with wrapper.optim_context(model):
        assert not torch.is_autocast_enabled('cpu')
    with pytest.raises(ValueError, match='optim_wrapper.dtype'):
        build(model, type='adpe_mm.AmpOptimWrapper', dtype='float8')
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match='needs a GPU'):
            build(model, type='adpe_mm.AmpOptimWrapper', dtype='float16')


def test_projection_hook_projects_after_each_step_and_logs():
    model = tiny_model('ape', 'coordinate', norm='linf', eps=1e-4)
    wrapper = build(model)
    logged = {}

    class Hub:
        def update_scalar(self, name, value):
            logged[name] = float(value)

    runner = type('Runner', (), dict(model=model, optim_wrapper=wrapper, message_hub=Hub(), iter=0))
    hook = AdversaryProjectionHook(interval=1)
    hook.before_train(runner)
    loss = model.loss(torch.randn(4, 3, 16, 24))['loss']
    gradient = torch.autograd.grad(loss, model.adversary.ape, retain_graph=True)[0]
    wrapper.update_params(loss)  # a step of 1e-3, ten times the radius
    assert model.adversary.ape.abs().max().item() == pytest.approx(1e-4)
    hook.after_train_iter(runner, 0)
    assert logged['train/adversary/log10_gradient'] == pytest.approx(
        gradient.norm().log10().item(), abs=1e-5
    )
    assert logged['train/adversary/size'] == pytest.approx(1e-4)
    assert logged['train/adversary/projected'] == 1

    runner.optim_wrapper = type(
        'Wrapper', (), dict(optimizer=torch.optim.AdamW(model.parameters()))
    )
    with pytest.raises(ValueError, match='minimises over the adversary'):
        hook.before_train(runner)


def log_of_a_step(loss_scale=None, fused=False, **wrapper):
    """What two iterations of the adversary log, and where it is then."""
    torch.manual_seed(0)
    model = tiny_model('ape', 'coordinate', norm='linf', eps=1e-4)
    optimizer = dict(ADAMW, fused=fused)
    wrapper = build(
        model, type='adpe_mm.AmpOptimWrapper', dtype='float32', optimizer=optimizer, **wrapper
    )
    if loss_scale is not None:
        wrapper.loss_scaler = torch.amp.GradScaler('cpu', init_scale=loss_scale)
    logged = {}

    class Hub:
        def update_scalar(self, name, value):
            logged[name] = value

    runner = type('Runner', (), dict(model=model, optim_wrapper=wrapper, message_hub=Hub(), iter=0))
    hook = AdversaryProjectionHook(interval=1)
    hook.before_train(runner)
    for _ in range(2):
        wrapper.update_params(model.loss(torch.randn(4, 3, 16, 24))['loss'])
        hook.after_train_iter(runner, 0)
    return logged, model.adversary.ape.detach()


@pytest.mark.parametrize('fused', [False, True])
@pytest.mark.parametrize(
    'options', [{}, dict(accumulative_counts=2), dict(clip_grad=dict(max_norm=1e-3))]
)
def test_the_logged_gradient_has_no_loss_scale(fused, options):
    plain, _ = log_of_a_step(**options)
    scaled, _ = log_of_a_step(2.0**16, fused, **options)
    assert scaled.keys() == plain.keys() and len(plain) == 3
    assert scaled == pytest.approx(plain, abs=1e-4)  # a scale of 2 ** 16 would add 4.8


@pytest.mark.parametrize('fused', [False, True])
def test_steps_that_overflow_are_not_logged(fused):
    logged, shift = log_of_a_step(3e38, fused)
    assert not logged and not shift.any()


def test_mistakes():
    with pytest.raises(ValueError, match='paramwise_cfg'):
        LayerDecayOptimWrapperConstructor(dict(optimizer=ADAMW), dict(decay_rate=0.5))
    with pytest.raises(ValueError, match='has no ascent'):
        constructor = LayerDecayOptimWrapperConstructor(
            dict(optimizer=dict(type='mmpretrain.LARS', lr=1.0))
        )
        constructor(tiny_model('ape', 'coordinate'))
