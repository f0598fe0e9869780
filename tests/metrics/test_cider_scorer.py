import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmattn.errors import DataError
from mmattn.metrics.cider import cider_d
from mmattn.metrics.cider_scorer import CiderScorer
from mmattn.metrics.document_frequencies import DocumentFrequencies

caption = st.lists(st.sampled_from(list("abcde")), max_size=8)
images = st.lists(st.lists(caption, min_size=1, max_size=3), min_size=1, max_size=5)


@given(images, st.data())
def test_scores_are_those_of_cider_d(references, data):
    """With the references' own frequencies, whatever the order and number of captions."""
    order = data.draw(st.permutations(range(len(references))))
    predictions = [data.draw(caption) for _ in order]
    scorer = CiderScorer(references)
    _, expected = cider_d([references[i] for i in order], predictions)
    np.testing.assert_allclose(scorer(order, predictions), expected, rtol=0, atol=1e-12)
    several = scorer(
        [i for i in order for _ in range(2)], [p for p in predictions for _ in range(2)]
    )
    np.testing.assert_allclose(several, np.repeat(expected, 2), rtol=0, atol=1e-12)


def plain_score(references, prediction, corpus, order=4, sigma=6.0):
    """CIDEr-D of one caption with the document frequencies of a corpus, by counters."""

    def grams(tokens, n):
        return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))

    def weights(tokens, n):
        holds = {
            gram: sum(any(gram in grams(each, n) for each in image) for image in corpus)
            for gram in grams(tokens, n)
        }
        return {
            gram: count * math.log(len(corpus) / max(1, holds[gram]))
            for gram, count in grams(tokens, n).items()
        }

    total = 0.0
    for n in range(1, order + 1):
        own = weights(prediction, n)
        for reference in references:
            other = weights(reference, n)
            dot = sum(
                min(own[gram], other[gram]) * other[gram] for gram in own.keys() & other.keys()
            )
            scale = math.hypot(*own.values()) * math.hypot(*other.values())
            gap = len(prediction) - len(reference)
            total += math.exp(-(gap**2) / (2 * sigma**2)) * dot / scale if scale else 0.0
    return 10 * total / (order * len(references))


@given(images, images, st.data())
def test_frequencies_may_be_of_another_corpus(corpus, references, data):
    predictions = [data.draw(caption) for _ in references]
    scorer = CiderScorer(references, DocumentFrequencies.of(corpus))
    expected = [
        plain_score(image, prediction, corpus)
        for image, prediction in zip(references, predictions, strict=True)
    ]
    np.testing.assert_allclose(
        scorer(range(len(references)), predictions), expected, rtol=0, atol=1e-9
    )


def test_an_image_without_reference_is_refused():
    with pytest.raises(DataError, match="image 1 has no reference"):
        CiderScorer([[["a"]], []])


def test_no_caption_has_no_score():
    assert CiderScorer([[["a"]]])([], []).shape == (0,)
