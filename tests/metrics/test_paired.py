from itertools import product

import numpy as np
import pytest

from mmattn.errors import DataError
from mmattn.metrics.additive import mean_of
from mmattn.metrics.caption_metrics import caption_metrics
from mmattn.metrics.paired import paired_comparison

CHANCE = np.random.default_rng(0)


def exact_p(a, b):
    """Every way in which the captions of images may change sides."""
    gaps = np.asarray(a) - np.asarray(b)
    all_ = [abs((gaps * signs).mean()) for signs in product([1, -1], repeat=len(gaps))]
    return np.mean(np.array(all_) >= abs(gaps.mean()) - 1e-12)


def test_the_p_value_is_that_of_all_shuffles():
    a, b = CHANCE.random(9) + 0.15, CHANCE.random(9)
    found = paired_comparison({"m": mean_of(a)}, {"m": mean_of(b)}, shuffles=40_000)["m"]
    assert found.value == pytest.approx(a.mean() - b.mean())
    assert found.p_value == pytest.approx(exact_p(a, b), abs=0.01)


def test_shuffled_bleu_is_that_of_shuffled_captions():
    """Two images have four shuffles; each is scored anew as the plain twin."""
    references = [[list("abcdefg")], [list("hijklmn")]]
    one = [list("abcdxyz"), list("hijkxyz")]
    two = [list("abxxxyz"), list("hijkxyy")]
    first, second = (caption_metrics(references, each) for each in (one, two))
    found = paired_comparison(first, second, shuffles=4000)["BLEU_1"]
    large = 0
    for sides in product([False, True], repeat=2):
        ours = [two[i] if side else one[i] for i, side in enumerate(sides)]
        theirs = [one[i] if side else two[i] for i, side in enumerate(sides)]
        gap = [caption_metrics(references, each)["BLEU_1"].score for each in (ours, theirs)]
        large += abs(gap[0] - gap[1]) >= abs(found.value) - 1e-12
    assert found.p_value == pytest.approx(large / 4, abs=0.03)


def test_the_same_captions_do_not_differ():
    scores = {"m": mean_of(CHANCE.random(20))}
    assert paired_comparison(scores, scores, samples=20, shuffles=20)["m"] == (0, (0, 0), 1)


def test_a_large_difference_is_none_of_chance():
    a = CHANCE.random(50)
    found = paired_comparison({"m": mean_of(a + 1)}, {"m": mean_of(a)}, shuffles=999)["m"]
    assert found.p_value == 1 / 1000
    assert found.interval == pytest.approx((1, 1))


def test_pairing_makes_intervals_narrow():
    """Images differ much more than systems: that is no part of the difference's uncertainty."""
    image = CHANCE.normal(0, 10, 200)
    a, b = image + CHANCE.normal(0.5, 0.1, 200), image
    low, high = paired_comparison({"m": mean_of(a)}, {"m": mean_of(b)}, shuffles=10)["m"].interval
    assert 0.4 < low < high < 0.6


def test_only_scores_that_both_have_are_compared():
    first = {"a": mean_of([1.0, 2]), "b": mean_of([1.0, 2])}
    assert list(paired_comparison(first, {"b": mean_of([0.0, 2])}, samples=2)) == ["b"]


def test_systems_of_different_images_are_refused():
    with pytest.raises(DataError, match="1 images of one system and 2 of the other"):
        paired_comparison({"a": mean_of([1.0])}, {"a": mean_of([1.0, 2])})
