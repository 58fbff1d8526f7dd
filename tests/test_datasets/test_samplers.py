from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from adpe_mm.datasets import EpochSampler


def sampler(length, rank=0, world_size=1, **kwargs):
    with mock.patch('adpe_mm.datasets.samplers.get_dist_info', return_value=(rank, world_size)):
        return EpochSampler(range(length), **kwargs)


@settings(max_examples=40, deadline=None)
@given(
    length=st.integers(1, 60),
    world_size=st.integers(1, 5),
    epoch=st.integers(0, 3),
    seed=st.integers(0, 9),
)
def test_processes_together_visit_everything_once(length, world_size, epoch, seed):
    parts = []
    for rank in range(world_size):
        part = sampler(length, rank, world_size, seed=seed)
        part.set_epoch(epoch)
        parts.append(list(part))
        assert len(parts[-1]) == len(part) == -(-length // world_size)
    keys = [key for part in parts for key in part]
    assert {key.index for key in keys} == set(range(length))
    assert len(keys) - length < world_size  # only to fill up
    assert {(key.epoch, key.seed) for key in keys} == {(epoch, seed)}


@settings(max_examples=40, deadline=None)
@given(length=st.integers(1, 60), skipped=st.integers(0, 60), world_size=st.integers(1, 3))
def test_skip_leaves_the_rest_of_one_epoch(length, skipped, world_size):
    part = sampler(length, world_size - 1, world_size, seed=3)
    whole = list(part)
    part.skip(skipped)
    assert list(part) == whole[skipped:]
    assert list(part) == whole


def test_order_depends_on_epoch_and_seed_only():
    orders = {}
    for seed in (0, 1):
        for epoch in (0, 1):
            one = sampler(50, seed=seed)
            one.set_epoch(epoch)
            orders[seed, epoch] = tuple(key.index for key in one)
            again = sampler(50, seed=seed)
            list(again)
            again.set_epoch(epoch)
            assert tuple(key.index for key in again) == orders[seed, epoch]
    assert len(set(orders.values())) == 4
    assert [key.index for key in sampler(5, shuffle=False, seed=0)] == list(range(5))


def test_generators_of_samples_are_their_own():
    one = sampler(20, seed=0)
    draws = {key.rng().random() for key in one}
    for epoch in range(1, 20):
        one.set_epoch(epoch)
        draws |= {key.rng().random() for key in one}
    assert len(draws) == 400
    key = next(iter(one))
    assert key.rng().random() == key.rng().random()
