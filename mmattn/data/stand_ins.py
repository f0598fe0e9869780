"""Which samples are read instead of one that cannot be, whichever process and epoch it is in."""

from collections.abc import Iterator
from itertools import count

import numpy as np

from mmattn.data.order import shuffled, stable_hash

# Each sample's longest text in tokens, and how many texts it has: two arrays [samples].
Sizes = tuple[np.ndarray, np.ndarray]


def any_sample(index: int, length: int, seed: int) -> Iterator[int]:
    """Yield samples of a set of `length`, for ever, in an order that depends on `index`."""
    for attempt in count(1):
        yield stable_hash(seed, index, attempt, "replacement") % length


def no_larger(index: int, sizes: Sizes, seed: int) -> Iterator[int]:
    """Yield the other samples whose texts are no longer and no more, once each, in such an order.

    A batch has a budget of tokens for its longest text times its most texts, so it holds one of
    these wherever it holds sample `index`. There may be none.
    """
    longest, texts = sizes
    fit = np.flatnonzero((longest <= longest[index]) & (texts <= texts[index]))
    fit = fit[fit != index]
    yield from fit[shuffled(len(fit), seed, index, "replacement")].tolist()
