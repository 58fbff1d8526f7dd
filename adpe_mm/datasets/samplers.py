"""A sampler that makes all randomness of a sample a function of (seed, epoch, index).

So a run does not depend on the number of workers, and continues exactly from any iteration.
"""

import math
from collections.abc import Iterator
from random import Random

import numpy as np
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Dataset, Sampler

from adpe_mm.registry import DATA_SAMPLERS


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
        self._skipped = 0

    def __len__(self) -> int:
        """Samples of this process in a whole epoch."""
        return math.ceil(len(self.dataset) / self.world_size)

    def __iter__(self) -> Iterator[SampleKey | int]:
        order = np.arange(len(self.dataset))
        if self.shuffle:
            order = np.random.default_rng((self.seed, self.epoch)).permutation(order)
        order = np.resize(order, len(self) * self.world_size)  # repeats the first ones
        mine = order[self.rank :: self.world_size][self._skipped :]
        self._skipped = 0
        for index in mine:
            yield SampleKey(int(index), self.epoch, self.seed) if self.keys else int(index)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration visits."""
        self.epoch = epoch

    def skip(self, num_samples: int) -> None:
        """Leave out the first samples of this process, in the next iteration only."""
        self._skipped = num_samples
