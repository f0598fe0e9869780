"""The order of an epoch as a pure function, so that any run can rebuild it from a few integers."""

import hashlib

import numpy as np

from mmattn.errors import ConfigError, DataError


def stable_hash(*parts: int | str) -> int:
    """Return 63 bits that depend on `parts` alone: BLAKE2b (RFC 7693) of their written form.

    Python's own `hash` of a string changes from process to process. `repr` keeps `1` and `"1"`,
    and `("ab", "c")` and `("a", "bc")`, apart.
    """
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def batch_count(length: int, batch_size: int, world_size: int, drop_last: bool) -> int:
    """Return the number of batches of an epoch, which is the same on every rank.

    `length` counts the samples, `batch_size` those of one rank's batch.
    Raises `DataError` without samples and `ConfigError` where `drop_last` would leave no batch.
    """
    global_batch = batch_size * world_size
    if length < 1:
        raise DataError("the data set is empty: no batch can be made from 0 samples")
    if batch_size < 1 or world_size < 1:
        raise ConfigError(
            f"batch_size={batch_size} and world_size={world_size}: both must be at least 1"
        )
    if drop_last and length < global_batch:
        raise ConfigError(
            f"the data set has {length} samples and a global batch takes {global_batch} "
            f"(batch_size {batch_size} x {world_size} ranks), so drop_last=true leaves no batch: "
            "lower batch_size or set drop_last=false"
        )
    return length // global_batch if drop_last else -(-length // global_batch)


def epoch_batches(
    length: int,
    batch_size: int,
    world_size: int,
    seed: int,
    epoch: int,
    shuffle: bool,
    drop_last: bool,
) -> list[list[int]]:
    """Return the global batches of an epoch: lists of `batch_size * world_size` sample indices.

    The same (`length`, global batch, `seed`, `epoch`) gives the same global batches for any number
    of ranks; `rank_batches` cuts a rank's share. With `drop_last` the ragged end is left out.
    Without it, every index comes exactly once, but for one case: a last batch of fewer samples than
    ranks repeats its own samples, so that no rank gets a batch less than the others. Metrics drop
    these repeats by key.

    Raises what `batch_count` raises.
    """
    count = batch_count(length, batch_size, world_size, drop_last)
    order = shuffled(length, seed, epoch) if shuffle else np.arange(length)
    global_batch = batch_size * world_size
    batches = [order[i * global_batch : (i + 1) * global_batch] for i in range(count)]
    if len(batches[-1]) < world_size:
        batches[-1] = np.resize(batches[-1], world_size)
    return [batch.tolist() for batch in batches]


def rank_batches(global_batches: list[list[int]], rank: int, world_size: int) -> list[list[int]]:
    """Return `rank`'s share of each global batch: every `world_size`-th sample.

    Shares of one batch differ by one sample at most.
    """
    return [batch[rank::world_size] for batch in global_batches]


def is_repeat(length: int, batch_size: int, world_size: int, rank: int, index: int) -> bool:
    """Whether batch `index` of `rank` holds nothing but repeats (see `epoch_batches`).

    What is added up over ranks without the keys of the samples must leave such a batch out.
    """
    return length - index * batch_size * world_size <= rank


def shuffled(length: int, seed: int, epoch: int, what: str = "order") -> np.ndarray:
    """Return a permutation [length] of indices that depends on seed, epoch and `what` alone.

    NumPy froze the stream of its legacy generator (NEP 19); the newer `Generator` and
    `torch.randperm` promise no such thing, and an update would then change the order of an old run.
    """
    key = stable_hash(seed, epoch, what)
    words = [key & 0xFFFFFFFF, key >> 32]  # the legacy generator takes its key as 32-bit words
    return np.random.RandomState(words).permutation(length)
