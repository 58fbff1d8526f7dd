"""Sharded over two and four processes, a run is that of one process, and so are its checkpoints.

Reductions add in another order, hence the tolerances; SGD, as AdamW would blow gradients that are
rounding noise (of the keys' bias) up to full steps.
"""

import os
import signal

import pytest
import torch
import torch.distributed as dist
from torch._dynamo.utils import counters
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

import adpe_mm.evaluation  # noqa: F401  registers a hook
from adpe_mm.checkpoints import read_checkpoint
from adpe_mm.engine import EMAHook
from adpe_mm.engine.sharding import Sharding, WholeValidationHook
from adpe_mm.errors import MachineError, UserError
from adpe_mm.evaluation.probes.encoders import copy_encoder
from adpe_mm.models import AdPEViT, MAEPlus
from adpe_mm.registry import MODELS
from tests.helpers import tiny_config
from tests.test_engine.processes import in_processes
from tests.test_engine.toy import NOISY, Stopped, assert_same, draw, make_runner, stop

pytestmark = pytest.mark.skipif(
    not hasattr(FSDPModule, 'set_reshard_after_forward'), reason='torch is too old for sharding'
)
WEIGHTS = dict(rtol=1e-4, atol=1e-6)
EPS = 1e-4
IMAGE = torch.linspace(-1, 1, 3 * 16 * 24).view(1, 3, 16, 24)


@MODELS.register_module()
class PixelMasked(MAEPlus):
    """Masks by the pixels of a crop, and so in whichever process it is."""

    def loss(self, inputs, data_samples=None):
        patches = self.backbone.grid_size[0] * self.backbone.grid_size[1]
        noise = (inputs.flatten(1)[:, :patches].double() * 1e4) % 1
        return super().loss(inputs, noise=noise.float())


def settings(**options) -> dict:
    return {
        'optim_wrapper.optimizer': dict(_delete_=True, type='SGD', lr=0.1, momentum=0.9),
        'optim_wrapper.paramwise_cfg': dict(ascent=dict(lr=1e4)),
        'optim_wrapper.clip_grad': dict(max_norm=1.0),
        'custom_hooks': [
            dict(type='adpe_mm.IterationSeedHook'),
            dict(type='adpe_mm.AdversaryProjectionHook', interval=1),
            dict(type='adpe_mm.FiniteHook', policy='skip'),
            dict(type='adpe_mm.CheckpointFitHook'),
            dict(type='adpe_mm.EMAHook', momentum=0.1),
        ],
        'default_hooks.checkpoint.interval': 5,
        'default_hooks.runtime_info': dict(type='adpe_mm.DeferredRuntimeInfoHook'),
        'visualizer': dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')]),
        'auto_scale_lr': dict(enable=True, base_batch_size=8),
    } | options


def model(norm='l2', **backbone) -> dict:
    config = tiny_config(norm=norm, eps=EPS)
    config['backbone'].update(backbone)
    return dict(config, type='adpe_mm.PixelMasked')


def train(folder, name, processes=1, at=None, config=None, **options):
    options = settings(**{'train_dataloader.batch_size': 4 // processes}, **options)
    if processes > 1:
        options['launcher'] = 'pytorch'
    runner = make_runner(folder / name, folder / 'images', at, config or model(), options)
    runner.train()
    return runner


def interrupt(folder, name, processes, at, **options):
    with pytest.raises(Stopped):
        train(folder, name, processes, {at: stop}, **options)


def save(folder, name, runner, **more) -> None:
    torch.save(dict(losses=runner.record.losses, **more), folder / f'{name}-{runner.rank}.pt')


AMP = {'optim_wrapper.type': 'adpe_mm.AmpOptimWrapper', 'optim_wrapper.dtype': 'bfloat16'}
LARS = {
    'optim_wrapper.optimizer': dict(_delete_=True, type='adpe_mm.LARS', lr=0.5, trust=0.1),
    'optim_wrapper.accumulative_counts': 2,
}
WITHOUT_ADVERSARY = dict(tiny_config('rpe', None), type='adpe_mm.PixelMasked')
DROPPING = model(drop_path_rate=0.5)
COMPILED = dict(backend='eager', dynamic=False)


def two_processes(folder) -> None:
    drawing = [*settings()['custom_hooks'], dict(type='adpe_mm.ReconstructionHook')]
    runner = train(folder, 'two', 2, sharding=True, custom_hooks=drawing)
    blocks = [*runner.model.backbone.layers, *runner.model.neck.layers]
    units = [module for module in runner.model.modules() if isinstance(module, FSDPModule)]
    assert units == [runner.model, *blocks]
    assert all(isinstance(param, DTensor) for param in runner.model.parameters())
    copy = copy_encoder(runner.model, model())
    save(folder, 'two', runner, features=validate(runner), copied=copy(IMAGE)[0])

    interrupt(folder, 'killed', 2, 7, sharding=True)
    save(folder, 'killed', train(folder, 'killed', 2, sharding=True, resume=True))
    with pytest.raises(SystemExit):
        train(folder, 'stopped', 2, {3: signal_to_the_last}, sharding=True)
    save(folder, 'stopped', train(folder, 'stopped', 2, sharding=True, resume=True))
    train(folder, 'ddp', 2, **resume_from(folder, 'two'))
    train(folder, 'from_one', 2, sharding=True, **resume_from(folder, 'one'))
    train(folder, 'lars', 2, config=WITHOUT_ADVERSARY, sharding=True, **LARS)
    train(folder, 'amp', 2, sharding=dict(param_dtype='bfloat16'), **AMP)
    dropping = dict(config=DROPPING, sharding=True)
    train(folder, 'dropping', 2, **dropping)
    counters.clear()
    compiled = train(folder, 'compiled', 2, **dropping, compile=COMPILED)
    save(folder, 'compiled', compiled, graphs=counters['stats']['unique_graphs'])

    with pytest.raises(UserError, match='sharding.shards=3 must divide the 2 processes'):
        Sharding(shards=3).mesh()
    with pytest.raises(UserError, match='no block of an AdPEViT'):
        train(folder, 'noisy', 2, config=NOISY, sharding=True, custom_hooks=[])
    with pytest.raises(UserError, match="type='adpe_mm.EMAHook'"):
        train(folder, 'ema', 2, sharding=True, custom_hooks=[dict(type='EMAHook')])


def signal_to_the_last() -> None:
    if dist.get_rank() == dist.get_world_size() - 1:
        os.kill(os.getpid(), signal.SIGTERM)


def validate(runner) -> torch.Tensor:
    """What the average of the weights makes of an image, in as many calls as the rank says."""
    (average,) = (hook for hook in runner.hooks if isinstance(hook, EMAHook))
    (gathering,) = (hook for hook in runner.hooks if isinstance(hook, WholeValidationHook))
    before = [param.to_local().clone() for param in runner.model.parameters()]
    average.before_val_epoch(runner)
    gathering.before_val_iter(runner, 0)
    with torch.no_grad():
        for _ in range(1 + runner.rank):
            (features,) = runner.model.backbone(IMAGE)
    gathering.after_val_epoch(runner)
    average.after_val_epoch(runner)
    after = [param.to_local() for param in runner.model.parameters()]
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))
    return features


def four_processes(folder) -> None:
    save(folder, 'four', train(folder, 'four', 4, sharding=True))
    train(folder, 'from_two', 4, sharding=True, **resume_from(folder, 'two'))
    hybrid = dict(
        shards=2, reshard_after_forward=False, cpu_offload=True, activation_checkpointing=True
    )
    runner = train(folder, 'hybrid', 4, sharding=hybrid)
    assert runner.model.backbone.pos_embed.device_mesh.shape == (2, 2)


def resume_from(folder, name) -> dict:
    return dict(resume=True, load_from=str(folder / name / 'iter_5.pth'))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Of all runs."""
    folder = tmp_path_factory.mktemp('sharding')
    draw(folder / 'images')
    save(folder, 'one', train(folder, 'one'))
    in_processes(2, folder, two_processes, folder)
    in_processes(4, folder, four_processes, folder)
    train(folder, 'back', **resume_from(folder, 'two'))
    train(folder, 'lars_one', config=WITHOUT_ADVERSARY, **LARS)
    train(folder, 'amp_one', **AMP)
    return folder


def read(folder, name, iteration=10) -> dict:
    return read_checkpoint(folder / name / f'iter_{iteration}.pth')


def assert_close(a, b, tolerance=WEIGHTS, where='checkpoint') -> None:
    """The same names in the same order, the same values but for rounding."""
    assert type(a) is type(b), where
    if isinstance(a, torch.Tensor):
        torch.testing.assert_close(a, b, **tolerance, msg=lambda text: f'{where}: {text}')
    elif isinstance(a, dict):
        assert list(a) == list(b), where
        for key in a:
            assert_close(a[key], b[key], tolerance, f'{where}.{key}')
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_close(x, y, tolerance, f'{where}[{i}]')
    else:
        assert a == b, where


STATES = ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers')
SCALARS = ('grad_norm', 'adversary/size', 'adversary/projected', 'adversary/log10_gradient')


@pytest.mark.slow
@pytest.mark.parametrize(
    'name', ['two', 'four', 'hybrid', 'ddp', 'from_one', 'from_two', 'back', 'killed']
)
def test_the_checkpoint_is_that_of_one_process(folder, name):
    """However it was sharded, and went on from a checkpoint that was sharded otherwise."""
    sharded, one = (read(folder, of) for of in (name, 'one'))
    for state in STATES:
        assert_close(sharded[state], one[state])
    assert sharded['state_dict']._metadata == one['state_dict']._metadata
    assert sharded['meta']['adpe_mm'] == one['meta']['adpe_mm']
    logs = [checkpoint['message_hub']['log_scalars'] for checkpoint in (sharded, one)]
    for scalar in SCALARS:
        values = [log[f'train/{scalar}']._log_history for log in logs]
        assert len(values[0]) == 10
        assert values[0].tolist() == pytest.approx(values[1].tolist(), rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize('name, processes', [('two', 2), ('four', 4)])
def test_losses_are_those_of_one_process(folder, name, processes):
    losses = [torch.load(folder / f'{name}-{rank}.pt')['losses'] for rank in range(processes)]
    one = torch.load(folder / 'one-0.pt')['losses']
    for iteration, loss in one.items():
        mean = sum(of_process[iteration] for of_process in losses) / processes
        assert mean == pytest.approx(loss, rel=1e-5)


@pytest.mark.slow
def test_the_adversary_was_at_work(folder):
    weights = read(folder, 'one')['ema_state_dict']  # those trained, as the others are averages
    shifts = [value for name, value in weights.items() if '.adversary.' in name]
    assert len(shifts) == 3
    for shift in shifts:
        assert shift.norm().item() == pytest.approx(EPS, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['killed', 'stopped'])
def test_killed_or_stopped_and_resumed_is_exact(folder, name):
    """Stopped by a signal to process 1 alone."""
    killed, two = (read(folder, of) for of in (name, 'two'))
    for state in STATES:
        assert_same(killed[state], two[state])
    for rank in range(2):
        losses = [torch.load(folder / f'{of}-{rank}.pt')['losses'] for of in (name, 'two')]
        assert 3 < min(losses[0]) <= 6  # it was not begun anew
        assert losses[0] == {i: loss for i, loss in losses[1].items() if i in losses[0]}


@pytest.mark.slow
@pytest.mark.parametrize(
    'name, reference, tolerance',
    [
        ('lars', 'lars_one', WEIGHTS),
        # Weights of norms and tables are bfloat16 in forward here, and float32 there.
        ('amp', 'amp_one', dict(rtol=0.05, atol=5e-3)),
    ],
)
def test_other_optimisers_and_precisions(folder, name, reference, tolerance):
    sharded, one = (read(folder, of)['state_dict'] for of in (name, reference))
    assert_close(sharded, one, tolerance)
    saved_first = 6 if name == 'lars' else 5  # at the next step of the optimiser
    begin = read(folder, reference, saved_first)['state_dict']
    assert not torch.allclose(begin['neck.predict.weight'], one['neck.predict.weight'])


@pytest.mark.slow
def test_compiled(folder):
    """Blocks share graphs, but none with another code: the first one skips nothing."""
    compiled, plain = (read(folder, name) for name in ('compiled', 'dropping'))
    assert_close(compiled['state_dict'], plain['state_dict'])
    assert 3 <= torch.load(folder / 'compiled-0.pt')['graphs'] <= 6


@pytest.mark.slow
def test_validation_is_of_the_averages(folder):
    weights = read(folder, 'two')['state_dict']
    plain = MODELS.build(model())
    plain.load_state_dict(weights)
    with torch.no_grad():
        (expected,) = plain.backbone(IMAGE)
    for rank in range(2):
        features = torch.load(folder / f'two-{rank}.pt')['features']
        torch.testing.assert_close(features, expected)


@pytest.mark.slow
def test_probes_get_the_weights_in_training(folder):
    averaged = read(folder, 'two')['ema_state_dict']  # in their place are those that are trained
    plain = MODELS.build(model())
    plain.load_state_dict(
        {n.removeprefix('module.'): v for n, v in averaged.items() if n != 'steps'}
    )
    with torch.no_grad():
        (tokens,) = plain.backbone.eval()(IMAGE)
    expected = tokens[:, 1:].transpose(1, 2).unflatten(2, (4, 6))
    for rank in range(2):
        copied = torch.load(folder / f'two-{rank}.pt')['copied']
        torch.testing.assert_close(copied, expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    'task',
    [
        dict(out_type='avg_featmap'),
        dict(out_type='featmap', out_indices=(0, 1)),
        dict(out_type='featmap', with_cls_token=False, final_norm=False, window_size=2),
    ],
    ids=['cls', 'seg', 'det'],
)
def test_tasks_begin_from_it(folder, task):
    path = folder / 'two' / 'iter_10.pth'
    arch = tiny_config()['backbone']['arch']
    init_cfg = dict(type='Pretrained', checkpoint=str(path), prefix='backbone.')
    settings = dict(arch=arch, img_size=(16, 24), patch_size=4, position='rpe', init_cfg=init_cfg)
    backbone = AdPEViT(**settings, **task)
    backbone.init_weights()
    trained = read(folder, 'two')['state_dict']
    for name, value in backbone.layers.state_dict().items():
        assert torch.equal(value, trained[f'backbone.layers.{name}'])


def test_mistakes():
    assert Sharding.from_config(None) is None and Sharding.from_config(False) is None
    assert Sharding.from_config(True) == Sharding.from_config({}) == Sharding()
    with pytest.raises(UserError, match=r"sharding has \['shard'\]"):
        Sharding.from_config(dict(shard=2))
    with pytest.raises(UserError, match='must be True or a dict'):
        Sharding.from_config('{}')
    with pytest.raises(UserError, match='sharding.param_dtype'):
        Sharding.from_config(dict(param_dtype='float16'))


def test_an_old_torch_is_refused(monkeypatch):
    monkeypatch.delattr(FSDPModule, 'set_reshard_after_forward')
    with pytest.raises(MachineError, match='too old for sharding.*pip install torch=='):
        Sharding.from_config(True)


def test_one_process_shards_nothing(tmp_path):
    draw(tmp_path / 'images')
    runner = train(tmp_path, 'run', sharding=True)
    assert runner.iter == 10
    assert not any(isinstance(param, DTensor) for param in runner.model.parameters())
