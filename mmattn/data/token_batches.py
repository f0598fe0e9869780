"""Training batches of samples with texts of about one length, within a budget of tokens.

Texts of a batch are padded to the longest of it, and what is padded is computed in vain. Here the
samples are sorted by their longest text, cut into buckets of some batches each, and mixed inside
a bucket; batches of short texts hold more samples. Where the cuts are depends on the lengths alone,
so an epoch has the same number of batches as any other, on every rank: schedules need to know it.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from mmattn.data.order import shuffled, stable_hash
from mmattn.errors import ConfigError, DataError

# Batches in a bucket: with more, texts of one batch differ more; with fewer, the same samples meet
# in one epoch after the other.
POOL = 16


class Bucket(NamedTuple):
    """Places `start` to `stop` in the order of lengths, cut into global batches of `size`."""

    start: int
    stop: int
    size: int


class TokenBatches:
    """The global batches of an epoch, which are a function of the epoch.

    Every sample comes once in an epoch. A rank's batch has at most `tokens` tokens, padding
    included, and `most` samples. All ranks' shares of a global batch have the same number of
    samples, except those of one batch in an epoch: shares of that differ by one sample at most, and
    with fewer samples than ranks it repeats its own.

    Args:
        longest: the tokens of each sample's longest text, begin or end included.
        texts: how many texts each sample has.
        tokens: the budget of one rank's batch.
        most: the samples of one rank's batch at most.
        world_size: number of ranks.
        seed: of the order.

    Raises:
        ConfigError: a sample does not fit into the budget.
        DataError: there is no sample.
    """

    def __init__(
        self,
        longest: Sequence[int] | np.ndarray,
        texts: Sequence[int] | np.ndarray,
        *,
        tokens: int,
        most: int,
        world_size: int,
        seed: int,
    ):
        if not len(longest):
            raise DataError("the data set is empty: no batch can be made from 0 samples")
        self.longest, self.texts = np.asarray(longest), np.asarray(texts)
        self.tokens, self.most, self.world_size, self.seed = tokens, most, world_size, seed
        need = int((self.longest * self.texts).max())
        if need > tokens:
            raise ConfigError(
                f"data.loader.tokens_per_batch={tokens} is less than the {need} tokens of one "
                "sample, all its texts padded to the longest: raise it, or let a sample have fewer "
                "texts (data.loader.captions_per_image, data.texts_per_image)"
            )

    def __len__(self) -> int:
        """Return the number of batches of every epoch."""
        return sum(-(-(b.stop - b.start) // b.size) for b in self.buckets)

    def __call__(self, epoch: int) -> list[list[int]]:
        """Return the global batches of an epoch: lists of sample indices."""
        length = len(self.longest)
        drawn = shuffled(length, self.seed, epoch)
        place = np.empty(length, np.int64)
        place[drawn] = np.arange(length)  # when each sample was drawn
        # By length, and as drawn where that is equal.
        ordered = drawn[np.lexsort((-self.texts[drawn], -self.longest[drawn]))]
        batches = []
        for start, stop, size in self.buckets:
            mixed = ordered[start:stop]
            mixed = mixed[np.argsort(place[mixed])]
            batches += [mixed[i : i + size] for i in range(0, len(mixed), size)]
        if len(batches[-1]) < self.world_size:
            batches[-1] = np.resize(batches[-1], self.world_size)
        return [batches[i].tolist() for i in shuffled(len(batches), self.seed, epoch, "batches")]

    @cached_property
    def fingerprint(self) -> int:
        """A number that changes when the batches do."""
        sizes = (self.longest.tolist(), self.texts.tolist(), list(self.buckets), self.world_size)
        return stable_hash(repr(sizes))

    @cached_property
    def buckets(self) -> list[Bucket]:
        """The buckets, longest texts first; all but the last hold whole batches."""
        order = np.lexsort((-self.texts, -self.longest))
        longest, texts = self.longest[order].tolist(), self.texts[order].tolist()
        found, start = [], 0
        while start < len(order):
            # The most samples that can come into the bucket decide how many texts one may have.
            reach = self._size(longest[start], texts[start]) * POOL
            size = self._size(longest[start], max(texts[start : start + reach]))
            stop = min(start + size * POOL, len(order))
            found.append(Bucket(start, stop, size))
            start = stop
        return found

    def _size(self, longest: int, texts: int) -> int:
        """Return the samples of a global batch. A single one always fits: it was checked alone."""
        fitting = self.tokens // max(1, longest * texts)
        return max(1, min(self.most, fitting)) * self.world_size
