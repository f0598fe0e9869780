"""Confidence intervals of caption scores: what would they be for other images of the same kind?"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from mmattn.errors import ConfigError
from mmattn.metrics.additive import Additive, of_side_by_side, side_by_side

CELLS = 1 << 22  # of a table of numbers that is in memory at once
LEVEL = 0.95


class Interval(NamedTuple):
    """The ends of a confidence interval."""

    low: float
    high: float


def bootstrap(
    scores: Mapping[str, Additive], samples: int = 1000, seed: int = 0, level: float = LEVEL
) -> dict[str, Interval]:
    """The percentile interval of every score over resampled images (Efron and Tibshirani 1993).

    Each sample draws as many images as there are, with repetition; the score of a sample is made of
    its images' statistics added up, so BLEU is that of the sampled corpus. CIDEr-D keeps the
    document frequencies of the whole one. All scores see the same samples.

    Raises:
        ConfigError: for fewer than 2 samples.
    """
    drawn = of_side_by_side(scores, resampled_sums(side_by_side(scores), samples, seed))
    return dict(zip(scores, intervals(drawn, level), strict=True))


def intervals(drawn: np.ndarray, level: float = LEVEL) -> list[Interval]:
    """The central interval of each column of [samples, scores]; NaN where a column has only that.

    A sample without a score, such as CHAIR of captions that name no object, is left out.
    """
    ends = [(1 - level) / 2, (1 + level) / 2]
    found = []
    for column in drawn.T:
        known = column[~np.isnan(column)]
        low, high = np.quantile(known, ends) if len(known) else (np.nan, np.nan)
        found.append(Interval(float(low), float(high)))
    return found


def resampled_sums(statistics: np.ndarray, samples: int, seed: int) -> np.ndarray:
    """Sums of statistics [images, K] over `samples` draws of images: [samples, K].

    The draws depend on `seed` and the numbers of images and samples alone.
    """
    if samples < 2:
        raise ConfigError(f"{samples} bootstrap samples: an interval takes 2 or more")
    images = len(statistics)
    parts = [
        times_drawn(chance, rows, images) @ statistics
        for chance, rows in chunks(samples, images, seed)
    ]
    return np.concatenate(parts)


def times_drawn(chance: np.random.Generator, rows: int, images: int) -> np.ndarray:
    """How often each image is in each of some samples, float64 [rows, images]."""
    drawn = chance.integers(images, size=(rows, images)) + images * np.arange(rows)[:, None]
    return np.bincount(drawn.ravel(), minlength=rows * images).reshape(rows, images).astype(float)


def chunks(rows: int, width: int, seed: int) -> Iterator[tuple[np.random.Generator, int]]:
    """Parts of a random table of rows that fit into memory, each with what it is drawn by."""
    chance = np.random.default_rng(seed)
    most = max(1, CELLS // max(width, 1))
    for first in range(0, rows, most):
        yield chance, min(most, rows - first)
