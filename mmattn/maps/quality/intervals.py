"""How sure a mean is: over words that share images, and over training runs."""

from collections.abc import Mapping, Sequence
from math import cos, pi, sin, sqrt
from typing import NamedTuple

import numpy as np


class Interval(NamedTuple):
    """A mean and the ends of its confidence interval; three arrays of one shape."""

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def bootstrap(
    values: np.ndarray,
    clusters: np.ndarray,
    *,
    seed: int,
    resamples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Return the mean of values [n, ...] over n words, with percentile bootstrap intervals.

    `clusters` [n] names the image of each word: words of one image are not independent, so whole
    images are drawn with replacement (Cameron, Gelbach and Miller 2008). NaN values are left out;
    where all are NaN the result is NaN. The same seed gives the same intervals, and all columns of
    `values` see the same draws.
    """
    values, clusters = np.asarray(values, dtype=np.float64), np.asarray(clusters)
    if len(values) != len(clusters) or not len(values):
        raise ValueError(
            f"{len(values)} values with {len(clusters)} clusters: one each, at least 1"
        )
    names, cluster = np.unique(clusters, return_inverse=True)
    columns = values.reshape(len(values), -1)
    known = np.isfinite(columns)
    sums = _per_cluster(np.where(known, columns, 0), cluster, len(names))
    counts = _per_cluster(known.astype(np.float64), cluster, len(names))
    chances = np.full(len(names), 1 / len(names))
    draws = np.random.default_rng(seed).multinomial(len(names), chances, size=resamples)
    means = _ratio(draws @ sums, draws @ counts)
    tail = 100 * (1 - level) / 2
    low, high = _percentiles(means, [tail, 100 - tail])
    mean = _ratio(sums.sum(0), counts.sum(0))
    return Interval(*(each.reshape(values.shape[1:]) for each in (mean, low, high)))


def over_runs(values: np.ndarray, level: float = 0.95) -> Interval:
    """Return the mean of values [runs, ...] over training runs, with Student's t-intervals.

    Raises `ValueError` for fewer than three runs: two say next to nothing about their spread.
    """
    values = np.asarray(values, dtype=np.float64)
    runs = len(values)
    if runs < 3:
        raise ValueError(
            f"an interval over runs needs at least 3 of them, got {runs}: train with other seeds"
        )
    mean = values.mean(0)
    half = t_quantile((1 + level) / 2, runs - 1) * values.std(0, ddof=1) / sqrt(runs)
    return Interval(np.asarray(mean), np.asarray(mean - half), np.asarray(mean + half))


def figures_over_runs(
    runs: Sequence[Mapping[str, float]], level: float = 0.95
) -> dict[str, Interval]:
    """Return the interval over runs of every figure that all of them have, by its key."""
    shared = [key for key in runs[0] if all(key in run for run in runs)] if runs else []
    table = np.array([[run[key] for key in shared] for run in runs], dtype=np.float64)
    found = over_runs(table, level)
    return {key: Interval(*(each[i] for each in found)) for i, key in enumerate(shared)}


def t_quantile(probability: float, freedom: int) -> float:
    """Return the t below which a Student's t of `freedom` degrees falls with `probability`."""
    if not 0.5 <= probability < 1 or freedom < 1:
        raise ValueError(f"no quantile {probability} of a t with {freedom} degrees of freedom")
    # The distribution function rises with the angle atan(t/√freedom): halve until it is found.
    low, high = 0.0, pi / 2
    for _ in range(100):
        middle = (low + high) / 2
        below = 0.5 + _central(middle, freedom) / 2 < probability
        low, high = (middle, high) if below else (low, middle)
    return sqrt(freedom) * sin(low) / cos(low)


def _central(angle: float, freedom: int) -> float:
    """P(|t| <= √freedom·tan(angle)): Abramowitz and Stegun 1964, 26.7.3 and 26.7.4."""
    odd = freedom % 2
    term = cos(angle) if odd else 1.0
    total = term if freedom > 1 else 0.0
    for k in range(3 if odd else 2, freedom, 2):
        term *= (k - 1) / k * cos(angle) ** 2
        total += term
    return 2 / pi * (angle + sin(angle) * total) if odd else sin(angle) * total


def _per_cluster(columns: np.ndarray, cluster: np.ndarray, count: int) -> np.ndarray:
    sums = np.zeros((count, columns.shape[1]))
    np.add.at(sums, cluster, columns)
    return sums


def _ratio(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)


def _percentiles(means: np.ndarray, wanted: list[float]) -> np.ndarray:
    """Percentiles of each column's draws, of those that hold a value of the column at all."""
    if np.isfinite(means).all():
        return np.percentile(means, wanted, axis=0)
    columns = [column[np.isfinite(column)] for column in means.T]
    empty = np.full(len(wanted), np.nan)
    return np.stack([np.percentile(c, wanted) if len(c) else empty for c in columns], axis=1)
