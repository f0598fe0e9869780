"""Is one captioner better than another on the same images, or is it chance?"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from mmattn.errors import DataError
from mmattn.metrics.additive import Additive, of_side_by_side, side_by_side
from mmattn.metrics.bootstrap import LEVEL, Interval, chunks, intervals, resampled_sums

# A shuffled difference as large as the observed one counts as large, also after rounding.
ROUNDING = 1e-12


class Difference(NamedTuple):
    """How much higher the first of two scores is.

    Attributes:
        value: first - second, on all images.
        interval: of that, over resampled images; None where none were drawn.
        p_value: how often a difference as large comes about where it does not matter which of the
            two wrote which caption; None where nothing was shuffled.
    """

    value: float
    interval: Interval | None
    p_value: float | None


def paired_comparison(
    first: Mapping[str, Additive],
    second: Mapping[str, Additive],
    *,
    samples: int = 1000,
    shuffles: int = 10_000,
    seed: int = 0,
    level: float = LEVEL,
) -> dict[str, Difference]:
    """Compare two systems by the scores that both have, on the same images in the same order.

    The interval is that of the paired bootstrap (Koehn 2004, "Statistical significance tests for
    machine translation evaluation"): both systems are scored on the same resampled images. The
    p-value is two-sided, by approximate randomisation (Riezler and Maxwell 2005, "On some pitfalls
    in automatic evaluation and significance testing for MT"): in each shuffle the captions of every
    image change sides by the toss of a coin; p = (1 + shuffles with a difference as large) / (1 +
    shuffles), so it is never below 1 / (1 + shuffles). 0 samples are no interval, 0 shuffles no
    p-value.

    Raises:
        DataError: where the numbers of images differ.
        ConfigError: for 1 sample.
    """
    names = [name for name in first if name in second]
    ours, theirs = ({name: each[name] for name in names} for each in (first, second))
    a, b = side_by_side(ours), side_by_side(theirs)
    if a.shape != b.shape:
        raise DataError(f"{len(a)} images of one system and {len(b)} of the other: score the same")
    observed = _difference(ours, a.sum(0, keepdims=True), b.sum(0, keepdims=True))[0]
    ends: list[Interval | None] = [None] * len(names)
    if samples:
        sums = (resampled_sums(each, samples, seed) for each in (a, b))
        ends = [*intervals(_difference(ours, *sums), level)]
    p_values: list[float | None] = [None] * len(names)
    if shuffles:
        p_values = randomisation(ours, a, b, observed, shuffles, seed).tolist()
    rows = zip(observed.tolist(), ends, p_values, strict=True)
    return dict(zip(names, (Difference(*row) for row in rows), strict=True))


def randomisation(
    scores: Mapping[str, Additive],
    a: np.ndarray,
    b: np.ndarray,
    observed: np.ndarray,
    shuffles: int,
    seed: int,
) -> np.ndarray:
    """The p-value of each observed difference, from statistics [images, K] of both systems."""
    gap, total_a, total_b = b - a, a.sum(0), b.sum(0)
    large = np.zeros(len(observed))
    for chance, rows in chunks(shuffles, len(a), seed):
        moved = chance.integers(2, size=(rows, len(a)), dtype=np.uint8).astype(float) @ gap
        shuffled = _difference(scores, total_a + moved, total_b - moved)
        large += (np.abs(shuffled) >= np.abs(observed) - ROUNDING).sum(0)
    return np.where(np.isnan(observed), np.nan, (1 + large) / (1 + shuffles))


def _difference(scores: Mapping[str, Additive], a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return of_side_by_side(scores, a) - of_side_by_side(scores, b)
