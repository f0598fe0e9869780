import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmattn.metrics.bleu import bleu_scores

words = st.sampled_from(list("abcde"))
caption = st.lists(words, max_size=8)
corpora = st.lists(st.tuples(st.lists(caption, min_size=1, max_size=3), caption), min_size=1)


def plain_bleu(corpus, n):
    """Papineni et al. 2002, section 2.3, written down with counters; None where it is undefined."""

    def grams(tokens, k):
        return Counter(tuple(tokens[i : i + k]) for i in range(len(tokens) - k + 1))

    logs = 0.0
    for k in range(1, n + 1):
        matched = total = 0
        for references, prediction in corpus:
            most = Counter()
            for reference in references:
                most |= grams(reference, k)
            predicted = grams(prediction, k)
            matched += sum((predicted & most).values())
            total += sum(predicted.values())
        if matched == 0:
            return None
        logs += math.log(matched / total) / n
    predicted = sum(len(prediction) for _, prediction in corpus)
    closest = sum(
        min((len(reference) for reference in references), key=lambda r: (abs(r - len(p)), r))
        for references, p in corpus
    )
    return math.exp(min(0, 1 - closest / predicted) + logs)


@given(corpora)
def test_corpus_and_caption_scores_equal_a_plain_twin(corpus):
    scores, per_caption = bleu_scores(*zip(*corpus, strict=True))
    assert per_caption.shape == (len(corpus), 4)
    for n in range(1, 5):
        twins = [(plain_bleu(corpus, n), scores[n - 1])]
        twins += [(plain_bleu([row], n), per_caption[i, n - 1]) for i, row in enumerate(corpus)]
        for twin, score in twins:
            # Where the textbook has log 0, coco-caption's small constants leave at most this.
            assert score == pytest.approx(twin, abs=1e-6) if twin else score <= 1e-6**0.25


def test_clipping_and_closest_length_by_hand():
    """The example of Papineni et al.: "the" seven times has a clipped precision of 2 / 7."""
    references = [
        [["the", "cat", "is", "on", "the", "mat"], ["there", "is", "a", "cat", "on", "the", "mat"]]
    ]
    (scores, _) = bleu_scores(references, [["the"] * 7], order=1)
    assert scores == pytest.approx([2 / 7])


def test_brevity_penalty_by_hand():
    # References of 4 and 8 words are equally close to 6: the shorter counts, so no penalty.
    references = [[list("abcd"), list("abcdefgh")]]
    scores, _ = bleu_scores(references, [list("abcdxy")], order=1)
    assert scores == pytest.approx([4 / 6])
    scores, _ = bleu_scores([[list("abcd")]], [list("ab")], order=2)
    assert scores == pytest.approx([math.exp(1 - 4 / 2)] * 2)


def test_the_corpus_score_adds_counts_before_it_divides():
    references = [[list("abcd")], [list("ab")]]
    scores, per_caption = bleu_scores(references, [list("abcd"), list("xy")], order=1)
    assert scores == pytest.approx([4 / 6])
    assert per_caption[:, 0] == pytest.approx([1, 0], abs=1e-8)


@given(st.lists(st.lists(words, min_size=4, max_size=8), min_size=1))
def test_perfect_predictions_score_one(captions):
    scores, per_caption = bleu_scores([[caption] for caption in captions], captions)
    assert scores == pytest.approx(np.ones(4))
    assert per_caption == pytest.approx(np.ones((len(captions), 4)))


@given(corpora, st.randoms())
def test_the_order_of_the_corpus_does_not_matter(corpus, chance):
    shuffled = chance.sample(corpus, len(corpus))
    first, _ = bleu_scores(*zip(*corpus, strict=True))
    second, _ = bleu_scores(*zip(*shuffled, strict=True))
    assert np.array_equal(first, second)


def test_empty_predictions_and_references_score_zero():
    scores, per_caption = bleu_scores([[["a"]], [[]]], [[], []])
    assert scores.tolist() == [0] * 4
    assert per_caption.tolist() == [[0] * 4] * 2
