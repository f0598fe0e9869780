"""Scores of a corpus that sums over its images determine: what resampling of images needs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Additive:
    """A score, as statistics of every image and what makes a score of their sums.

    So a corpus of other images, or of the same in other numbers, is scored without looking at a
    caption again; BLEU is then that of the corpus, and no mean over images.

    Attributes:
        statistics: float64 [images, K].
        of_sums: sums of such rows, [rows, K] -> scores [rows]; NaN where a score is undefined.
    """

    statistics: np.ndarray
    of_sums: Callable[[np.ndarray], np.ndarray]

    @property
    def score(self) -> float:
        """The score of the corpus."""
        return float(self.of_sums(self.statistics.sum(0, keepdims=True))[0])

    @property
    def per_image(self) -> np.ndarray:
        """The score of each image alone [images]."""
        return self.of_sums(self.statistics)


def mean_of(values: Sequence[float] | Sequence[int] | np.ndarray) -> Additive:
    """The mean over images of one value each."""
    values = np.asarray(values, dtype=np.float64)
    return ratio_of(values, np.ones(len(values)))


def ratio_of(part: np.ndarray, whole: np.ndarray) -> Additive:
    """The sum of `part` over the sum of `whole`, both [images]; NaN where that is 0."""
    return Additive(np.column_stack([part, whole]).astype(np.float64), quotient)


def quotient(sums: np.ndarray) -> np.ndarray:
    """The first column over the second."""
    part, whole = sums.T
    return np.divide(part, whole, out=np.full(len(sums), np.nan), where=whole != 0)


def side_by_side(scores: Mapping[str, Additive]) -> np.ndarray:
    """The statistics of several scores in one table [images, all K], in their order."""
    return np.concatenate([each.statistics for each in scores.values()], axis=1)


def of_side_by_side(scores: Mapping[str, Additive], sums: np.ndarray) -> np.ndarray:
    """The scores [rows, scores] of sums of rows of `side_by_side`."""
    columns, first = [], 0
    for each in scores.values():
        last = first + each.statistics.shape[1]
        columns.append(each.of_sums(sums[:, first:last]))
        first = last
    return np.column_stack(columns)
