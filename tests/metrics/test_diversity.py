import math

import numpy as np
import pytest

from mmattn.metrics.diversity import distinct, novel, said_again, self_cider, vocabulary
from mmattn.metrics.word_counts import word_counts

CAPTIONS = [["a", "dog", "runs"], ["a", "dog"], ["a", "dog"], []]


def test_distinct_ngrams_are_scaled_by_the_number_of_words():
    assert distinct(CAPTIONS, 1) == 3 / 7
    assert distinct(CAPTIONS, 2) == 2 / 7
    assert math.isnan(distinct([[]], 1))


def test_words_repetitions_and_new_captions():
    assert vocabulary(CAPTIONS) == 3
    assert said_again(CAPTIONS) == 0.5
    assert novel(CAPTIONS, {("a", "dog"), ()}).tolist() == [True, False, False, False]


def test_the_lengths_of_captions():
    counts = word_counts(CAPTIONS)
    assert (counts.mean, counts.median, counts.longest) == (1.75, 2, 3)
    assert counts.deviation == pytest.approx(np.std([3, 2, 2, 0]))
    assert counts.histogram == {0: 1, 2: 2, 3: 1}


# Four words of which each is in one image, so that every word weighs log 4.
REFERENCES = [[["one"]], [["two"]], [["three"]], [["four"]]]


def test_self_cider_is_0_of_equal_and_1_of_unlike_captions():
    predictions = [
        [["one", "two"], ["one", "two"], ["one", "two"]],
        [["one"], ["two"], ["three"]],
        [["one"]],
        [[], []],
    ]
    found = self_cider(REFERENCES, predictions, order=1)
    assert found == pytest.approx([0, 1, math.nan, 0], abs=1e-6, nan_ok=True)


def test_self_cider_by_hand():
    """Two captions with a cosine of 1/2: eigenvalues 3/2 and 1/2."""
    predictions = [[["one", "two"], ["one", "three"]], *[[["four"]]] * 3]
    share = math.sqrt(1.5) / (math.sqrt(1.5) + math.sqrt(0.5))
    found = self_cider(REFERENCES, predictions, order=1)
    assert found[0] == pytest.approx(-math.log(share) / math.log(2))


def test_the_kernel_is_the_mean_over_orders():
    """Captions of one word have no pairs: their kernel is halved, and its spread the same."""
    predictions = [[["one"], ["two"]], *[[["four"]]] * 3]
    assert self_cider(REFERENCES, predictions, order=2)[0] == pytest.approx(1)
