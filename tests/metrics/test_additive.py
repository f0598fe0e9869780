import numpy as np
import pytest

from mmattn.metrics.additive import mean_of, of_side_by_side, ratio_of, side_by_side


def test_a_mean_and_a_ratio_of_the_corpus_and_of_its_images():
    mean, ratio = mean_of([1, 2, 6]), ratio_of(np.array([1, 0, 2]), np.array([2, 0, 3]))
    assert (mean.score, ratio.score) == (3, 3 / 5)
    assert mean.per_image.tolist() == [1, 2, 6]
    assert ratio.per_image == pytest.approx([0.5, np.nan, 2 / 3], nan_ok=True)


def test_scores_side_by_side_are_those_of_each():
    scores = {"a": mean_of([1, 2]), "b": ratio_of(np.array([1, 1]), np.array([4, 4]))}
    sums = side_by_side(scores).sum(0, keepdims=True)
    assert of_side_by_side(scores, sums).tolist() == [[1.5, 0.25]]
