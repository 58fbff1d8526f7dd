import random
import time
from itertools import islice
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.runner import loops as mmengine_loops
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, Sampler

from adpe_mm.datasets import EpochSampler, SeededBatches, kept_generators
from adpe_mm.errors import UserError


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


def wrap(sampler, endless=False, drop_last=True, batch_size=4, start=None):
    seeded = SeededBatches(BatchSampler(sampler, batch_size, drop_last), endless)
    seeded.seed = 5
    if start is not None:
        seeded.begin(0, start)
    return seeded


def indices(batches, number=None):
    return [batch.indices for batch in islice(batches, number)]


@settings(max_examples=20, deadline=None)
@given(size=st.integers(1, 40), start=st.integers(0, 30), seed=st.integers(0, 9))
def test_order_of_iterations_is_that_of_mmengine(size, start, seed):
    """Its `IterBasedTrainLoop` goes through a loader with `InfiniteSampler`."""
    loader = DataLoader(range(size), 4, sampler=InfiniteSampler(range(size), seed=seed))
    expected = [batch.tolist() for batch in islice(loader, 40)]
    batches = wrap(InfiniteSampler(range(size), seed=seed), endless=True)
    assert not list(batches)  # mmengine before 0.10.12 loads as it builds its loop
    batches.begin(0, start)
    assert indices(batches, 40 - start) == expected[start:]


def test_order_of_iterations_with_a_sampler_that_ends(monkeypatch):
    """One epoch follows the other, as in mmengine's loop."""
    monkeypatch.setattr(time, 'sleep', lambda seconds: None)
    loader = DataLoader(range(10), 4, sampler=DefaultSampler(range(10), seed=1))
    iterator = mmengine_loops._InfiniteDataloaderIterator(loader)
    expected = [next(iterator).tolist() for _ in range(20)]
    assert expected[:3] != expected[3:6]
    for start in (0, 2, 3, 13):
        batches = wrap(DefaultSampler(range(10), seed=1), endless=True, drop_last=False)
        batches.begin(0, start)
        assert indices(batches, 20 - start) == expected[start:]


def test_endless_without_a_batch_is_said():
    batches = wrap(DefaultSampler(range(3), seed=1), endless=True, start=0)
    with pytest.raises(UserError, match='do not fill one batch'):
        next(iter(batches))


class Remembering(Sampler):
    """Six samples per epoch, and all before any comes again: as mmdet's for several data sets."""

    def __init__(self, size):
        self.size, self.left = size, []

    def __iter__(self):
        for _ in range(6):
            if not self.left:
                self.left = np.random.permutation(self.size).tolist()
            yield self.left.pop()

    def __len__(self):
        return 6


SAMPLERS = {
    'EpochSampler': lambda: EpochSampler(range(23), seed=2, keys=False),
    'DefaultSampler': lambda: DefaultSampler(range(23), seed=2),
    'of torch, from the generator of all': lambda: RandomSampler(range(23)),
    'one that remembers former epochs': lambda: Remembering(23),
}


@pytest.mark.parametrize('name', SAMPLERS)
def test_epochs_go_on_from_any_batch(name):
    torch.manual_seed(0)
    batches, orders = wrap(SAMPLERS[name]()), []
    for epoch in range(4):
        batches.begin(epoch)
        orders.append(indices(batches))
        np.random.rand()
    assert len({str(order) for order in orders}) == 4
    for epoch in range(4):
        for start in range(len(orders[epoch])):
            torch.manual_seed(epoch + start)  # whatever has been drawn since
            np.random.seed(start)
            resumed = wrap(SAMPLERS[name]())
            resumed.begin(epoch, start)
            assert indices(resumed) == orders[epoch][start:]
            if epoch < 3:
                resumed.begin(epoch + 1)
                assert indices(resumed) == orders[epoch + 1]


class Random:
    """Samples from all generators, and another one in the place of each fifth."""

    def __len__(self):
        return 23

    def __getitem__(self, index):
        if index % 5 == 0:
            index = np.random.randint(len(self))
        return [index, random.random(), np.random.rand(), torch.rand(()).item()]


def load(start=0, num_workers=0, epoch=0, dataset=None, sampler=None):
    sampler = sampler or EpochSampler(range(23), seed=2, keys=False)
    loader = DataLoader(
        dataset or Random(),
        batch_sampler=(batches := wrap(sampler)),
        num_workers=num_workers,
        collate_fn=list,
    )
    batches.begin(epoch, start)
    return list(loader)


def test_samples_depend_on_their_place_alone():
    """Neither on what is loaded before, nor on what else is drawn, nor on the workers."""
    whole = load()
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    for start in range(5):
        assert load(start) == whole[start:]
    assert load(1, num_workers=2) == whole[1:]
    draws = [sample[1:] for epoch in (whole, load(epoch=1)) for batch in epoch for sample in batch]
    assert len({number for draw in draws for number in draw}) == 3 * len(draws) == 120


def test_samples_of_one_index_differ():
    """Repeated augmentation, and what fills up the last batch."""
    batch = load(sampler=[4, 4, 4, 4])[0]
    assert len({sample[1] for sample in batch}) == 4


def test_an_iteration_has_the_same_samples_on_two_processes():
    whole = load()
    parts = []
    for rank in range(2):
        where = mock.patch('adpe_mm.datasets.samplers.get_dist_info', return_value=(rank, 2))
        with where:
            batches = wrap(EpochSampler(range(23), seed=2, keys=False), batch_size=2, start=0)
        parts.append(list(DataLoader(Random(), batch_sampler=batches, collate_fn=list)))
    for together, *of_each in zip(whole, *parts, strict=False):
        assert together == [sample for pair in zip(*of_each, strict=True) for sample in pair]


def generators():
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()


def test_generators_of_the_main_process_are_left_alone():
    with kept_generators():
        before = generators()
        batches = wrap(SAMPLERS['one that remembers former epochs']())
        batches.begin(2)
        for batch in batches:
            [Random()[index] for index in batch]
        assert generators() == before
        batch = next(iter(wrap(EpochSampler(range(23), seed=2), start=0)))
        with pytest.raises(ZeroDivisionError):
            [1 / (index * 0) for index in batch]
        assert generators() == before


def test_hooks_find_the_sampler_and_the_size_of_batches():
    """mmengine's `DistSamplerSeedHook`, and whoever asks a loader for its sampler."""
    sampler = DefaultSampler(range(9), seed=0)
    loader = SimpleNamespace(batch_sampler=wrap(sampler))
    assert loader.batch_sampler.sampler is sampler and loader.batch_sampler.batch_size == 4
    assert len(loader.batch_sampler) == 2
