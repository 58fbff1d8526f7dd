"""Losses are read when they are logged, and what is logged does not change."""

import numpy as np
import pytest
from mmengine.logging import MessageHub

from tests.test_engine.toy import Stopped, draw, make_runner, stop


def losses(runner):
    return runner.message_hub.get_scalar('train/loss').data[0]


def options(deferred, interval=3):
    kind = 'adpe_mm.DeferredRuntimeInfoHook' if deferred else 'RuntimeInfoHook'
    return {
        'default_hooks.runtime_info': dict(type=kind),
        'default_hooks.logger.interval': interval,
        'default_hooks.checkpoint.interval': 100,
    }


@pytest.fixture
def updates(monkeypatch):
    """(iteration, value) of every update of the loss."""
    found = []
    update = MessageHub.update_scalar

    def record(hub, key, value, *args, **kwargs):
        if key == 'train/loss':
            found.append((hub.get_info('iter'), value))
        update(hub, key, value, *args, **kwargs)

    monkeypatch.setattr(MessageHub, 'update_scalar', record)
    return found


def test_read_when_logged_and_at_the_end_of_an_epoch(tmp_path, updates):
    data = draw(tmp_path / 'data')
    runner = make_runner(tmp_path / 'a', data, options=options(deferred=True))
    runner.train()
    # Epochs of 5 iterations, logged after the third: 3 + 2 + 3 + 2, counted from 0.
    assert [iteration for iteration, _ in updates] == [2] * 3 + [4] * 2 + [7] * 3 + [9] * 2
    assert all(isinstance(value, float) for _, value in updates)
    assert [value for _, value in updates] == list(runner.record.losses.values())


def test_same_history_as_of_mmengine(tmp_path):
    data = draw(tmp_path / 'data')
    runs = [
        make_runner(tmp_path / str(deferred), data, options=options(deferred))
        for deferred in (False, True)
    ]
    for runner in runs:
        runner.train()
    assert len(losses(runs[0])) == 10
    assert np.array_equal(*map(losses, runs))


def test_nothing_is_lost_in_a_checkpoint_between_two_logs(tmp_path):
    data = draw(tmp_path / 'data')
    whole = make_runner(tmp_path / 'whole', data, options=options(deferred=True, interval=100))
    whole.train()
    settings = dict(
        options(deferred=True, interval=100), **{'default_hooks.checkpoint.interval': 4}
    )
    first = make_runner(tmp_path / 'parts', data, at={4: stop}, options=settings)
    with pytest.raises(Stopped):
        first.train()
    second = make_runner(tmp_path / 'parts', data, options=dict(settings, resume=True))
    second.train()
    assert np.array_equal(losses(second), losses(whole))
