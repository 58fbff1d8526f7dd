"""A loss that is no number: what each policy makes of it, and that nothing broken is saved."""

import math
import os

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.hooks import EMAHook, Hook
from mmengine.model import BaseModel
from torch import nn

from adpe_mm.checkpoints import read_checkpoint
from adpe_mm.engine import FiniteHook
from adpe_mm.registry import MODELS
from tests.helpers import tiny_config
from tests.test_engine.toy import CROP, draw, make_runner


@MODELS.register_module()
class Normed(BaseModel):
    """With running statistics, which a forward pass changes."""

    def __init__(self, data_preprocessor=None):
        super().__init__(data_preprocessor)
        self.norm = nn.BatchNorm1d(3 * CROP[0] * CROP[1])
        self.head = nn.Linear(3 * CROP[0] * CROP[1], 1)

    def forward(self, inputs, data_samples=None, mode='loss'):
        return dict(loss=self.head(self.norm(inputs.flatten(1))).square().mean())


class Break(Hook):
    """Puts a NaN into the inputs, a gradient, a weight, or what is averaged, at some iterations.

    They are counted from 1.
    """

    def __init__(self, where, at, value=math.nan):
        self.where, self.at, self.value = where, set(at), value

    def before_train(self, runner):
        self.weight = next(p for p in runner.model.parameters() if p.ndim > 1)
        self.weight.register_hook(
            lambda grad: (
                grad * self.value
                if self.where == 'gradient' and self.iteration in self.at
                else grad
            )
        )

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.iteration = runner.iter + 1
        if self.iteration in self.at:
            if self.where == 'loss':
                data_batch['inputs'] = data_batch['inputs'].float() * self.value
            if self.where == 'weight':
                self.weight.data.view(-1)[0] = self.value
            if self.where == 'statistics':
                model = getattr(runner.model, 'module', runner.model)
                model.norm.running_mean[0] = self.value
            if self.where == 'average':
                ema = next(hook for hook in runner.hooks if isinstance(hook, EMAHook))
                next(ema.ema_model.parameters()).data.view(-1)[0] = self.value


def run(tmp_path, where, at=(4,), policy='stop', options=None, **hook):
    runner = make_runner(
        tmp_path / 'run',
        draw(tmp_path / 'images'),
        model=dict(type='adpe_mm.Normed'),
        options={
            'default_hooks.finite': dict(type='adpe_mm.FiniteHook', policy=policy, **hook),
            **(options or {}),
        },
    )
    runner.register_hook(Break(where, at))
    return runner


def saved(tmp_path):
    return sorted(path.name for path in (tmp_path / 'run').glob('iter_*.pth'))


def all_finite(checkpoint) -> bool:
    state = checkpoint['optimizer']['state'].values()
    tensors = [*checkpoint['state_dict'].values(), *(t for s in state for t in s.values())]
    tensors += checkpoint.get('ema_state_dict', {}).values()
    return all(bool(torch.isfinite(t).all()) for t in tensors if torch.is_tensor(t))


AMP = {'optim_wrapper.type': 'adpe_mm.AmpOptimWrapper'}


@pytest.mark.parametrize('options', [{}, AMP], ids=['float32', 'bfloat16'])
@pytest.mark.parametrize(('where', 'first'), [('loss', 4), ('gradient', 5), ('weight', 4)])
def test_stop(where, first, options, tmp_path):
    """A gradient shows in the loss of the next iteration; until then nothing is saved either."""
    runner = run(tmp_path, where, options=options)
    with pytest.raises(
        ValueError, match=f'the loss is nan since iteration {first}, at lr'
    ) as error:
        runner.train()
    assert "the last checkpoint is '" in str(error.value) and 'iter_3.pth' in str(error.value)
    assert saved(tmp_path) == ['iter_1.pth', 'iter_2.pth', 'iter_3.pth']
    for name in saved(tmp_path):
        assert all_finite(read_checkpoint(tmp_path / 'run' / name))
    kept = torch.load(tmp_path / 'run' / f'nonfinite_iter_{first}.pth', weights_only=True)
    assert kept['iteration'] == first and kept['inputs'].shape[-2:] == CROP


EMA = {'default_hooks.ema': dict(type='adpe_mm.EMAHook', momentum=0.1)}


@pytest.mark.parametrize('options', [{}, AMP], ids=['float32', 'bfloat16'])
@pytest.mark.parametrize('where', ['loss', 'gradient'])
@pytest.mark.parametrize('policy', ['stop', 'skip'])
def test_while_gradients_accumulate(where, policy, options, tmp_path):
    """Of the steps at 2, 4, 6 ... that of 4 is bad. With an average of the weights, too."""
    options = {'optim_wrapper.accumulative_counts': 2, **EMA, **options}
    runner = run(tmp_path, where, at=[3], policy=policy, options=options)
    if policy == 'stop':
        with pytest.raises(ValueError, match='the loss is nan since iteration [35], at lr'):
            runner.train()
        assert saved(tmp_path) == ['iter_2.pth']
    else:
        runner.train()
        assert runner.message_hub.get_scalar('train/skipped').current() == 1
        before, after = (read_checkpoint(tmp_path / 'run' / f'iter_{i}.pth') for i in (2, 4))
        for name, value in before['state_dict'].items():
            assert torch.equal(value, after['state_dict'][name]), name
    for name in saved(tmp_path):
        assert all_finite(read_checkpoint(tmp_path / 'run' / name))


@pytest.mark.parametrize('where', ['gradient', 'weight', 'statistics', 'average'])
def test_nothing_broken_takes_the_place_of_a_good_checkpoint(where, tmp_path):
    """Even by a policy that looks at nothing, and where no loss shows it."""
    options = {'default_hooks.checkpoint.max_keep_ckpts': 1, **EMA}
    runner = run(tmp_path, where, policy='ignore', options=options)
    runner.train()
    assert saved(tmp_path) == ['iter_3.pth']
    assert (tmp_path / 'run' / 'last_checkpoint').read_text().endswith('iter_3.pth')
    assert all_finite(read_checkpoint(tmp_path / 'run' / 'iter_3.pth'))


def test_it_is_said_at_the_next_log(tmp_path):
    runner = run(tmp_path, 'loss', options={'default_hooks.logger.interval': 5})
    with pytest.raises(ValueError, match='since iteration 4'):
        runner.train()
    assert max(runner.record.losses) == 4  # hooks after ours did not see the fifth
    assert saved(tmp_path)[-1] == 'iter_3.pth'


def test_the_last_iteration_counts(tmp_path):
    runner = run(tmp_path, 'loss', at=[10], options={'default_hooks.logger.interval': 50})
    with pytest.raises(ValueError, match='since iteration 10'):
        runner.train()


@pytest.mark.parametrize('options', [{}, AMP], ids=['float32', 'bfloat16'])
@pytest.mark.parametrize('where', ['loss', 'gradient'])
def test_skip_leaves_everything_as_it_was(where, options, tmp_path):
    runner = run(tmp_path, where, at=[4, 5], policy='skip', options=options)
    runner.train()
    assert saved(tmp_path)[-1] == 'iter_9.pth' and len(saved(tmp_path)) == 10
    before, after = (read_checkpoint(tmp_path / 'run' / f'iter_{i}.pth') for i in (3, 5))
    for name, value in before['state_dict'].items():
        assert torch.equal(value, after['state_dict'][name]), name
    states = [c['optimizer']['state'] for c in (before, after)]
    for key, state in states[0].items():
        for name, value in state.items():
            assert torch.equal(value, states[1][key][name]), name
    assert runner.message_hub.get_scalar('train/skipped').current() == 2
    assert all_finite(read_checkpoint(tmp_path / 'run' / 'iter_10.pth'))


def test_skip_ends_after_too_many(tmp_path):
    runner = run(tmp_path, 'loss', at=range(4, 11), policy='skip', max_skips=2)
    with pytest.raises(ValueError, match='gradients of 3 steps in a row are not finite'):
        runner.train()
    assert saved(tmp_path)[-1] == 'iter_5.pth'


def test_skip_changes_nothing_in_a_healthy_run(tmp_path):
    losses = {}
    for policy in ('skip', 'ignore'):
        runner = run(tmp_path / policy, 'nowhere', policy=policy)
        runner.train()
        losses[policy] = runner.record.losses
    assert losses['skip'] == losses['ignore'] and len(losses['skip']) == 10


def test_ignore_trains_on_and_saves_nothing_broken(tmp_path):
    runner = run(tmp_path, 'loss', policy='ignore')
    runner.train()
    assert len(runner.record.losses) == 10 and math.isnan(runner.record.losses[10])
    assert saved(tmp_path) == ['iter_1.pth', 'iter_2.pth', 'iter_3.pth']
    assert (tmp_path / 'run' / 'last_checkpoint').read_text().endswith('iter_3.pth')


def test_an_adversary_that_explodes_is_named(tmp_path):
    runner = make_runner(
        tmp_path / 'run',
        draw(tmp_path / 'images'),
        model=tiny_config('ape', 'embedding', norm=None),
        options={
            'default_hooks.finite': dict(type='adpe_mm.FiniteHook'),
            'optim_wrapper.paramwise_cfg': dict(ascent=dict(lr=1e38)),
        },
    )
    with pytest.raises(ValueError, match='the adversary had grown to .*units of the embedding'):
        runner.train()


def test_unknown_policy():
    with pytest.raises(ValueError, match='policy must be one of'):
        FiniteHook(policy='pray')


def of_two(rank, store, folder, policy, where, options, results):
    """A run of two processes, of which the second meets a NaN."""
    os.environ.update(RANK=str(rank), WORLD_SIZE='2', LOCAL_RANK=str(rank))
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{store}', rank=rank, world_size=2)
    runner = make_runner(
        folder / 'run',
        folder / 'images',
        model=dict(type='adpe_mm.Normed'),
        options={
            'launcher': 'pytorch',
            'default_hooks.finite': dict(type='adpe_mm.FiniteHook', policy=policy),
            'model_wrapper_cfg': dict(type='MMDistributedDataParallel', broadcast_buffers=False),
            **options,
        },
    )
    runner.register_hook(Break(where if rank else 'nowhere', [2]))
    try:
        runner.train()
        results[rank] = {n: p.detach().numpy() for n, p in runner.model.module.named_parameters()}
    except ValueError as error:
        results[rank] = str(error)
    os._exit(0)  # DDP holds threads of gloo's, which now and then abort Python as it ends


@pytest.mark.slow
@pytest.mark.parametrize(
    'policy, where, options',
    [
        ('stop', 'loss', {}),
        ('stop', 'gradient', AMP),
        ('skip', 'loss', AMP),
        ('skip', 'gradient', {}),
        ('ignore', 'weight', {}),
        ('ignore', 'statistics', {}),
    ],
)
def test_two_processes_decide_alike(policy, where, options, tmp_path):
    draw(tmp_path / 'images')
    with mp.Manager() as manager:
        results = manager.dict()
        arguments = str(tmp_path / 'store'), tmp_path, policy, where, options, results
        mp.spawn(of_two, arguments, nprocs=2)
        first, second = results[0], results[1]
    if policy == 'stop':
        # The NaN of one is in the weights of both by the next iteration.
        seen = 3 if where == 'gradient' else 2
        assert f'since iteration {seen}' in first
        assert f'the loss is nan since iteration {seen}' in second
        assert (tmp_path / 'run' / f'nonfinite_iter_{seen}_process_1.pth').exists()
    else:
        for name in first:
            np.testing.assert_array_equal(first[name], second[name], name)
    # What only one of them has is in no checkpoint either.
    assert saved(tmp_path)[-1] == ('iter_4.pth' if policy == 'skip' else 'iter_1.pth')
    assert all(all_finite(read_checkpoint(tmp_path / 'run' / name)) for name in saved(tmp_path))
