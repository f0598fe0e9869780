import math

import numpy as np
import pytest

from mmattn.errors import DataError
from mmattn.metrics.document_frequencies import DocumentFrequencies


def test_frequencies_by_hand():
    """Of three images "a" is in all, "a dog" in two, "dog" in two, "runs" in one, twice."""
    corpus = [
        [["a", "dog"], ["a", "dog", "runs", "runs"]],
        [["a", "dog"]],
        [["a", "cat"]],
    ]
    frequencies = DocumentFrequencies.of(corpus, order=2)
    words, pairs = frequencies.numbers.places([["a", "dog", "runs", "bird", "a"]])
    expected = [0.0, math.log(3 / 2), math.log(3), math.log(3), 0.0]
    np.testing.assert_allclose(frequencies.weights(1, words.ngram), expected)
    expected = [math.log(3 / 2), math.log(3), math.log(3), math.log(3)]  # the last two: unknown
    np.testing.assert_allclose(frequencies.weights(2, pairs.ngram), expected)


def test_a_corpus_without_images_has_none():
    with pytest.raises(DataError, match="there is no image"):
        DocumentFrequencies.of([])


def test_captions_shorter_than_the_order_leave_longer_ngrams_unknown():
    frequencies = DocumentFrequencies.of([[["a"]], [["b"]]], order=3)
    assert frequencies.numbers.known == [2, 0, 0]
    triples = frequencies.numbers.places([["a", "b", "a"]])[2]
    np.testing.assert_allclose(frequencies.weights(3, triples.ngram), [math.log(2)])
