"""What captions of an image have in common is CIDEr-D of each with each, by the plain metric."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmattn.metrics.agreement import agreement
from mmattn.metrics.cider import cider_d
from mmattn.metrics.cider_scorer import CiderScorer
from mmattn.metrics.document_frequencies import DocumentFrequencies

words = st.sampled_from(list("abcd"))
caption = st.lists(words, max_size=7)
images = st.lists(st.lists(caption, min_size=1, max_size=3), min_size=1, max_size=4)


def over_the_others(drawn, score):
    """The mean of score(one, other) over the others, pair by pair."""
    return [
        np.mean([score(one, other) for j, other in enumerate(drawn) if j != i])
        for i, one in enumerate(drawn)
    ]


@given(st.lists(caption, min_size=2, max_size=5))
def test_without_frequencies_it_is_the_metric_in_a_corpus_where_no_ngram_is_said_twice(drawn):
    def score(one, other):
        return cider_d([[other], [["z"]]], [one, ["z"]])[1][0]

    assert agreement([drawn])[0] == pytest.approx(over_the_others(drawn, score), abs=1e-9)


@given(st.lists(caption, min_size=2, max_size=5), images)
def test_with_frequencies_it_is_the_mean_over_pairs(drawn, known):
    frequencies = DocumentFrequencies.of(known)

    def score(one, other):
        return CiderScorer([[other]], frequencies)([0], [one])[0]

    found = agreement([drawn], frequencies)[0]
    assert found == pytest.approx(over_the_others(drawn, score), abs=1e-9)


@given(st.lists(st.lists(caption, max_size=3), max_size=4), images)
def test_images_do_not_see_each_other(drawn, known):
    frequencies = DocumentFrequencies.of(known)
    together = agreement(drawn, frequencies)
    assert [len(scores) for scores in together] == [len(image) for image in drawn]
    for image, scores in zip(drawn, together, strict=True):
        assert scores == pytest.approx(agreement([image], frequencies)[0], abs=1e-9)


def test_what_most_say_is_chosen_and_what_is_said_of_all_images_counts_for_nothing():
    drawn = [text.split() for text in ("a cat sleeps there", "a dog runs", "a dog sits")]
    assert agreement([drawn])[0].argmax() > 0
    common = DocumentFrequencies.of([[["a", "dog"]]] * 9 + [[["a", "cat"]]])
    pair = [["a", "dog"], ["a", "cat"]]
    assert (agreement([pair])[0] > 0).all()
    assert agreement([pair], common)[0].tolist() == [0, 0]


def test_one_caption_alone_has_nobody_to_agree_with():
    assert [scores.tolist() for scores in agreement([[["a", "dog"]], []])] == [[0], []]
    assert agreement([]) == []
