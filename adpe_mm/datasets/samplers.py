"""Samplers that make all randomness of a sample a function of seed and place in the run.

So a run does not depend on the number of workers, and continues exactly from any iteration.
"""

import math
from collections.abc import Iterable, Iterator
from random import Random
from typing import Any

import numpy as np
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Dataset, Sampler

from adpe_mm.errors import UserError
from adpe_mm.registry import DATA_SAMPLERS

from .seeding import kept_generators, seed_generators


class SampleKey(int):
    """What a data set is asked for: the index of a sample, and what its randomness depends on.

    Data sets that wrap others, such as mmengine's `ConcatDataset` and `RepeatDataset`, compute the
    index within one of them: the key that results still draws what belongs to the whole.

    Args:
        index: Within the data set that is asked.
        epoch: Counted from 0.
        seed: Of the run.
        whole: Index within the outermost data set; `index` if None.
    """

    def __new__(cls, index: int, epoch: int, seed: int, whole: int | None = None) -> 'SampleKey':
        key = super().__new__(cls, index)
        key.epoch, key.seed = epoch, seed
        key.whole = int(index) if whole is None else whole
        return key

    def __sub__(self, start: int) -> 'SampleKey':
        return SampleKey(int(self) - start, self.epoch, self.seed, self.whole)

    def __mod__(self, length: int) -> 'SampleKey':
        return SampleKey(int(self) % length, self.epoch, self.seed, self.whole)

    @property
    def index(self) -> int:
        """Within the data set that is asked."""
        return int(self)

    def __reduce__(self) -> tuple:  # to the processes of a loader
        return SampleKey, (int(self), self.epoch, self.seed, self.whole)

    def rng(self) -> Random:
        """The generator of all random draws of this sample."""
        # Python's, as numpy's takes longer to make than to use. The leading 1 makes all keys four
        # words long: those of different lengths may begin the same sequence.
        return Random(1 << 96 | self.seed << 64 | self.epoch << 32 | self.whole)


@DATA_SAMPLERS.register_module()
class EpochSampler(Sampler[SampleKey | int]):
    """Visits every sample once an epoch, split over the processes.

    Args:
        dataset: The data set; only its length counts.
        shuffle: Whether each epoch has an order of its own.
        seed: Seed of order and samples; drawn, and agreed on by all processes, if None.
        keys: False for data sets of other libraries, which take a plain index.

    Yields:
        Keys (`SampleKey`), or indices. All processes get equally many: the first ones of the
        epoch's order are visited again to fill up. The n-th samples of all processes together
        follow the epoch's order, so that an iteration sees the same images on 8 processes as on 4
        with twice the batch.
    """

    def __init__(
        self,
        dataset: Dataset,
        shuffle: bool = True,
        seed: int | None = None,
        keys: bool = True,
    ) -> None:
        self.rank, self.world_size = get_dist_info()
        self.dataset = dataset
        self.shuffle = shuffle
        self.keys = keys
        self.seed = sync_random_seed() if seed is None else seed
        self.epoch = 0

    def __len__(self) -> int:
        """Samples of this process in a whole epoch."""
        return math.ceil(len(self.dataset) / self.world_size)

    def __iter__(self) -> Iterator[SampleKey | int]:
        order = np.arange(len(self.dataset))
        if self.shuffle:
            order = np.random.default_rng((self.seed, self.epoch)).permutation(order)
        order = np.resize(order, len(self) * self.world_size)  # repeats the first ones
        for index in order[self.rank :: self.world_size]:
            yield SampleKey(int(index), self.epoch, self.seed) if self.keys else int(index)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration visits."""
        self.epoch = epoch


class SeededBatch:
    """The indices of one batch; who goes through them finds the generators seeded for each sample.

    A loader does so in the process that makes the samples, the main one or a worker: whatever a
    data set or a transform of any library then draws, for other images too, is a function of the
    sample's place. Afterwards the generators are as they were.

    Args:
        indices: What the data set is asked for, which it gets as it is.
        seed: Of the run.
        epoch: Counted from 0.
        first: Place of the first sample in the epoch, among those of all processes.
        step: From each place to the next one of this process.
    """

    def __init__(self, indices: list, seed: int, epoch: int, first: int, step: int) -> None:
        self.indices = indices
        self.seed, self.epoch, self.first, self.step = seed, epoch, first, step

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator:
        with kept_generators():
            for number, index in enumerate(self.indices):
                seed_generators(self.seed, self.epoch, self.first + number * self.step)
                yield index


class SeededBatches(Sampler[SeededBatch]):
    """The batches of any batch sampler, from any one on, as `SeededBatch`.

    Nothing is loaded of those that are left out. The order is that of the wrapped sampler: with
    mmengine's `InfiniteSampler` or `DefaultSampler`, that of mmengine's loops. A sampler that draws
    from the global generators finds them seeded for each batch. One that may remember former
    epochs goes through them again when the run is resumed.

    Args:
        batches: What gives the indices of each batch.
        endless: Whether the next epoch follows when one is over, as in a training by iterations.

    Attributes:
        seed: Of the samples.
        sampler: That of `batches`, to which hooks tell the epoch.
        batch_size: That of `batches`.
    """

    def __init__(self, batches: Iterable[list], endless: bool) -> None:
        self.batches, self.endless = batches, endless
        self.seed = 0
        self.sampler = getattr(batches, 'sampler', None)
        self.batch_size = getattr(batches, 'batch_size', None)
        self.rank, self.world_size = get_dist_info()
        self._epoch: int | None = None
        self._start = self._next_epoch = 0
        # Their orders are functions of seed and epoch, or of the seed alone.
        self._forgetful = isinstance(self.sampler, EpochSampler | DefaultSampler | InfiniteSampler)

    def __len__(self) -> int:
        return len(self.batches)

    def begin(self, epoch: int, batch: int = 0) -> None:
        """Choose what the next iteration visits, which is nothing before: an epoch, or its rest."""
        self._epoch, self._start = epoch, batch

    def __iter__(self) -> Iterator[SeededBatch]:
        if self._epoch is None:  # mmengine before 0.10.12 starts loading as it builds its loop
            return
        if not self._forgetful:
            for epoch in range(self._next_epoch, self._epoch):
                for _ in self._visit(epoch):
                    pass
        start, self._start = self._start, 0
        epoch, done, place = self._epoch, 0, 0
        self._next_epoch = epoch + 1
        while True:
            before = done
            for indices in self._visit(epoch):
                if done >= start:
                    first = place * self.world_size + self.rank
                    yield SeededBatch(indices, self.seed, self._epoch, first, self.world_size)
                done, place = done + 1, place + len(indices)
            if not self.endless:
                return
            if done == before:
                raise UserError(
                    'the images do not fill one batch: lower train_dataloader.batch_size or the '
                    'number of processes, or add images'
                )
            epoch += 1

    def _visit(self, epoch: int) -> Iterator[Any]:
        """The batches of indices of one epoch."""
        for owner in (self.sampler, self.batches):
            if hasattr(owner, 'set_epoch'):
                owner.set_epoch(epoch)
        if self._forgetful:
            yield from self.batches
            return
        batches, number = iter(self.batches), 0
        while True:
            with kept_generators():
                seed_generators(self.seed, epoch, number)
                indices = next(batches, None)
            if indices is None:
                return
            yield indices
            number += 1
