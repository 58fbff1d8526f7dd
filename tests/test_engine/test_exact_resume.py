"""A run that is stopped anywhere and resumed equals one that is not, bit for bit."""

import pytest

from adpe_mm.engine import loops
from tests.test_engine.toy import (
    ADPE,
    NOISY,
    Stopped,
    assert_same,
    draw,
    final_state,
    make_runner,
    stop,
)

MODELS = {'noisy': NOISY, 'adpe': ADPE}


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    # Broken ones are replaced by chance, which must be the same chance.
    return draw(tmp_path_factory.mktemp('data') / 'images', 22, broken=(3, 4))


@pytest.fixture(scope='module')
def unbroken(tmp_path_factory, images):
    runners = {}
    for name, model in MODELS.items():
        runners[name] = make_runner(tmp_path_factory.mktemp(name), images, model=model)
        runners[name].train()
        assert list(runners[name].record.losses) == list(range(1, 11))
    return runners


def stop_and_resume(work_dir, images, stop_at, model=NOISY, options=None, resumed=None):
    options = options or {}
    first = make_runner(work_dir, images, {stop_at: stop}, model, options)
    with pytest.raises(Stopped):
        first.train()
    second = make_runner(
        work_dir, images, None, model, dict(options, resume=True, **(resumed or {}))
    )
    second.train()
    assert not first.record.losses.keys() & second.record.losses.keys()
    return second, first.record.losses | second.record.losses


@pytest.mark.parametrize('name', MODELS)
@pytest.mark.parametrize('stop_at', [3, 5, 7])
def test_resumed_equals_unbroken(tmp_path, images, unbroken, name, stop_at):
    runner, losses = stop_and_resume(tmp_path, images, stop_at, MODELS[name])
    assert losses == unbroken[name].record.losses
    assert_same(final_state(runner), final_state(unbroken[name]))


def test_resumed_from_a_whole_epoch(tmp_path, images, unbroken):
    """The checkpoint of epoch 1, though iterations 6 and 7 were done: they are repeated."""
    by_epoch = {'default_hooks.checkpoint.by_epoch': True}
    first = make_runner(tmp_path, images, {7: stop}, options=by_epoch)
    with pytest.raises(Stopped):
        first.train()
    second = make_runner(tmp_path, images, options=dict(by_epoch, resume=True))
    second.train()
    assert list(second.record.losses) == [6, 7, 8, 9, 10]
    assert first.record.losses | second.record.losses == unbroken['noisy'].record.losses
    assert_same(final_state(second), final_state(unbroken['noisy']))


def test_number_of_workers_changes_nothing(tmp_path, images, unbroken):
    workers = {'train_dataloader.num_workers': 2, 'train_dataloader.persistent_workers': True}
    runner, losses = stop_and_resume(tmp_path, images, 7, resumed=workers)
    assert losses == unbroken['noisy'].record.losses
    assert runner.train_dataloader._iterator is None  # the workers ended with the training


@pytest.mark.parametrize('seed', [None, 3])
def test_seed_is_that_of_the_interrupted_run(tmp_path, images, unbroken, seed):
    """Whatever the config says now, also for the order and the crops of the images."""
    _, losses = stop_and_resume(tmp_path, images, 3, resumed={'randomness.seed': seed})
    assert losses == unbroken['noisy'].record.losses


def test_gradient_accumulation(tmp_path, images):
    twice = {'optim_wrapper.accumulative_counts': 2}
    whole = make_runner(tmp_path / 'whole', images, options=twice)
    whole.train()
    runner, losses = stop_and_resume(tmp_path / 'broken', images, 6, options=twice)
    assert losses == whole.record.losses
    assert_same(final_state(runner), final_state(whole))


@pytest.mark.parametrize('part', ['seeds', 'loop'])
def test_without_our_parts_it_would_not_be_exact(tmp_path, images, monkeypatch, part):
    """So the tests above can fail."""
    monkeypatch.setattr(loops, 'EXACT', {})
    options = {
        'seeds': {'custom_hooks': [], 'default_hooks.iteration_seed': None},
        'loop': {'train_cfg': dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=2)},
    }[part]
    whole = make_runner(tmp_path / 'whole', images, options=options)
    whole.train()
    _, losses = stop_and_resume(tmp_path / 'broken', images, 7, options=options)
    assert {i: loss for i, loss in losses.items() if i <= 7} == {
        i: loss for i, loss in whole.record.losses.items() if i <= 7
    }
    assert losses != whole.record.losses


def test_another_seed_is_another_run(tmp_path, images, unbroken):
    other = make_runner(tmp_path, images, options={'randomness.seed': 8})
    other.train()
    assert not set(other.record.losses.values()) & set(unbroken['noisy'].record.losses.values())
