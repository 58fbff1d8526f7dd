"""Schedules follow the length of the training, whatever it is."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS, init_default_scope
from torch import nn

from adpe_mm.engine import AdPERunner
from adpe_mm.engine.schedules import check_times, in_iterations

CONFIGS = Path(__file__).parents[2] / 'configs'
ALL = sorted(path for path in CONFIGS.rglob('*.py') if '_base_' not in path.parts)


def rates(cfg: Config, length: int, lr: float = 1.0) -> list[float]:
    """The lr of each iteration, from the schedules of a config in a training of some length."""
    init_default_scope(cfg.default_scope)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)
    schedulers = [
        PARAM_SCHEDULERS.build(
            {'end': length} | in_iterations(dict(schedule), length) | dict(optimizer=optimizer)
        )
        for schedule in cfg.param_scheduler
    ]
    found = []
    for _ in range(length):
        found.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    return found


@pytest.mark.parametrize('length', [40, 1000])
@pytest.mark.parametrize('path', ALL, ids=lambda path: '/'.join(path.parts[-2:]))
def test_a_changed_length_is_enough(path, length):
    """lr warms up to its full value, comes down to its floor, and has one summit."""
    cfg = Config.fromfile(path)
    found = rates(cfg, length)
    top = max(found)
    assert top == pytest.approx(1) and found[0] < 0.01
    summit = found.index(top)
    assert found[:summit] == sorted(found[:summit])
    assert all(a >= b - 1e-12 for a, b in zip(found[summit:], found[summit + 1 :], strict=False))
    assert summit <= 0.51 * length  # Fashion-MNIST warms up for one epoch of two
    assert found[-1] < 0.05


def test_fractions_are_of_the_training():
    linear = dict(type='LinearLR', start_factor=0.1, end=0.25)
    assert in_iterations(linear, 40) == dict(linear, end=10, by_epoch=False)
    # One iteration of warm-up would leave lr at its first value for ever.
    assert in_iterations(linear, 4)['end'] == 2
    assert in_iterations(dict(type='PolyLR', begin=0.25), 1)['begin'] == 0
    steps = dict(type='MultiStepLR', begin=0, milestones=[0.5, 0.75], gamma=0.1)
    assert in_iterations(steps, 80)['milestones'] == [40, 60]
    cosine = dict(type='CosineAnnealingLR', begin=0.25, end=1.0, convert_to_iter_based=True)
    assert in_iterations(cosine, 8) == dict(
        type='CosineAnnealingLR', begin=2, end=8, by_epoch=False
    )


def test_times_of_mmengine_stay():
    for schedule in (
        dict(type='LinearLR', by_epoch=True, begin=0, end=5, convert_to_iter_based=True),
        dict(type='PolyLR', by_epoch=False, begin=1500, end=160000),
        dict(type='CosineAnnealingLR', T_max=7, by_epoch=True, begin=2.5),
    ):
        assert in_iterations(schedule, 40) == schedule


def test_a_schedule_beyond_the_training():
    late = dict(type='PolyLR', by_epoch=False, begin=1500, end=160000)
    with pytest.raises(ValueError, match='PolyLR begins after 1500 iterations.*has 40: state'):
        check_times(late, None, 40)
    with pytest.raises(ValueError, match='LinearLR begins after 5 epochs, and the training has 4'):
        check_times(dict(type='LinearLR', begin=5), 4, 400)
    warning = check_times(dict(type='LinearLR', end=40), 4, 400)
    assert 'LinearLR ends after 40 epochs, and the training has 4' in warning
    assert check_times(dict(type='LinearLR', end=40), None, 400) is None


@pytest.mark.parametrize('name', ['iteration_seed', 'timer'])  # one of ours, one of mmengine's
def test_a_hook_is_added_and_left_out_by_its_name(tmp_path, name):
    cfg = Config.fromfile(CONFIGS / '_base_' / 'default_runtime.py')
    types = {key: hook.type.rpartition('.')[2] for key, hook in cfg.default_hooks.items()}
    hooks = dict(cfg.default_hooks, ema=dict(type='EMAHook'), **{name: None})
    with torch.random.fork_rng():
        runner = AdPERunner(nn.Linear(1, 1), str(tmp_path), default_hooks=hooks)
    found = {type(hook).__name__ for hook in runner.hooks}
    assert set(types.values()) - found == {types[name]}
    assert 'EMAHook' in found
