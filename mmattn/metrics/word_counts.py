"""How long captions are, in words."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mmattn.metrics.ngrams import Tokens


class WordCounts(NamedTuple):
    """The numbers of words of some captions: mean, standard deviation, and quantiles.

    `histogram` is length -> captions of that length, from short to long.
    """

    mean: float
    deviation: float
    p5: float
    median: float
    p95: float
    longest: int
    histogram: dict[int, int]


def word_counts(captions: Sequence[Tokens]) -> WordCounts:
    """Count the words of captions, of which there is at least one."""
    lengths = np.array([len(caption) for caption in captions])
    p5, median, p95 = (float(each) for each in np.quantile(lengths, [0.05, 0.5, 0.95]))
    histogram = dict(sorted(Counter(lengths.tolist()).items()))
    mean, deviation = float(lengths.mean()), float(lengths.std())
    return WordCounts(mean, deviation, p5, median, p95, int(lengths.max()), histogram)
