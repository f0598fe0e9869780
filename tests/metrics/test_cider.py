import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmattn.metrics.cider import cider_d

words = st.sampled_from(list("abcde"))
caption = st.lists(words, max_size=8)
corpora = st.lists(st.tuples(st.lists(caption, min_size=1, max_size=3), caption), min_size=1)


def plain_cider_d(corpus, order=4, sigma=6.0):
    """Vedantam et al. 2015, written down with counters, for every caption."""

    def grams(tokens, n):
        return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))

    def weights(tokens, n):
        return {
            gram: count
            * math.log(len(corpus) / max(1, sum(holds(refs, gram) for refs, _ in corpus)))
            for gram, count in grams(tokens, n).items()
        }

    def holds(references, gram):
        return any(gram in grams(reference, len(gram)) for reference in references)

    def similarity(prediction, reference, n):
        g_c, g_s = weights(prediction, n), weights(reference, n)
        scale = math.hypot(*g_c.values()) * math.hypot(*g_s.values())
        dot = sum(min(g_c[gram], g_s[gram]) * g_s[gram] for gram in g_c.keys() & g_s.keys())
        gap = len(prediction) - len(reference)
        return math.exp(-(gap**2) / (2 * sigma**2)) * dot / scale if scale else 0.0

    return [
        10
        * sum(similarity(prediction, r, n) for r in references for n in range(1, order + 1))
        / (order * len(references))
        for references, prediction in corpus
    ]


@given(corpora)
def test_scores_equal_a_plain_twin(corpus):
    score, per_caption = cider_d(*zip(*corpus, strict=True))
    expected = plain_cider_d(corpus)
    assert per_caption == pytest.approx(expected, abs=1e-9)
    assert score == pytest.approx(sum(expected) / len(expected), abs=1e-9)


def test_unigrams_by_hand():
    """Two images; "a" is in both, so it weighs log(2/2) = 0 and every other word log 2."""
    references = [[["a", "dog", "runs"]], [["a", "cat"]]]
    _, per_caption = cider_d(references, [["a", "dog", "sits", "here"], ["a", "cat"]], order=1)
    # Image 0: vectors (dog, sits, here) and (dog, runs); one word more than the reference.
    expected = 10 * math.exp(-1 / 72) * 1 / (math.sqrt(3) * math.sqrt(2))
    assert per_caption == pytest.approx([expected, 10])


def test_a_repeated_word_is_clipped():
    references = [["dog"], ["cat"]]
    _, per_caption = cider_d([[tokens] for tokens in references], [["dog"] * 3, ["cat"]], order=1)
    # g(c) = 3 log 2, clipped to the reference's log 2, over |g(c)| |g(s)| = 3 log² 2.
    assert per_caption == pytest.approx([10 * math.exp(-4 / 72) / 3, 10])


def test_predictions_equal_to_the_only_reference_score_ten():
    captions = [["one", "two", "three", "four"], ["five", "six", "seven", "eight"]]
    score, per_caption = cider_d([[caption] for caption in captions], captions)
    assert score == pytest.approx(10)
    assert per_caption == pytest.approx([10, 10])


@given(corpora, st.randoms())
def test_the_order_of_the_corpus_does_not_matter(corpus, chance):
    order = chance.sample(range(len(corpus)), len(corpus))
    _, first = cider_d(*zip(*corpus, strict=True))
    _, second = cider_d(*zip(*(corpus[i] for i in order), strict=True))
    assert second == pytest.approx(first[order], abs=1e-12)


def test_a_corpus_of_one_image_scores_zero():
    score, _ = cider_d([[["a", "dog", "runs"]]], [["a", "dog", "runs"]])
    assert score == 0


def test_empty_captions_score_zero():
    _, per_caption = cider_d([[["a", "b"]], [[]], [["c"]]], [[], ["a"], ["c"]], order=2)
    assert np.array_equal(per_caption, [0, 0, 5])  # one word has no pair, so half of the mean is 0
