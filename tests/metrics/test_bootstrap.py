import numpy as np
import pytest

from mmattn.errors import ConfigError
from mmattn.metrics import bootstrap as module
from mmattn.metrics.additive import mean_of, ratio_of, side_by_side
from mmattn.metrics.bleu import bleu_scores
from mmattn.metrics.bootstrap import bootstrap, resampled_sums, times_drawn
from mmattn.metrics.caption_metrics import caption_metrics

CHANCE = np.random.default_rng(0)
WORDS = list("abcdef")


def corpus(images):
    def caption():
        return CHANCE.choice(WORDS, CHANCE.integers(3, 9)).tolist()

    return [[caption() for _ in range(2)] for _ in range(images)], [
        caption() for _ in range(images)
    ]


def test_a_resampled_bleu_is_that_of_the_resampled_corpus():
    """The plain twin: score the captions that were drawn, each as often as it was."""
    references, predictions = corpus(7)
    scores = caption_metrics(references, predictions)
    times = times_drawn(np.random.default_rng(3), 5, 7).astype(int)
    sums = resampled_sums(side_by_side({"BLEU_4": scores["BLEU_4"]}), 5, 3)
    for row, found in zip(times, scores["BLEU_4"].of_sums(sums), strict=True):
        drawn = np.repeat(np.arange(7), row)
        again, _ = bleu_scores([references[i] for i in drawn], [predictions[i] for i in drawn])
        assert found == pytest.approx(again[3], abs=1e-12)


def test_the_interval_of_a_mean_is_the_normal_one():
    values = np.random.default_rng(1).normal(5, 2, 400)
    low, high = bootstrap({"mean": mean_of(values)}, 4000)["mean"]
    half = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.03)


def test_equal_images_have_an_interval_without_width():
    assert bootstrap({"mean": mean_of([0.25] * 9)}, 50)["mean"] == pytest.approx((0.25, 0.25))


def test_the_seed_decides_and_parts_do_not_matter(monkeypatch):
    scores = {"mean": mean_of(CHANCE.random(30))}
    first = bootstrap(scores, 100, seed=1)
    assert bootstrap(scores, 100, seed=1) == first
    assert bootstrap(scores, 100, seed=2) != first
    monkeypatch.setattr(module, "CELLS", 64)
    assert bootstrap(scores, 100, seed=1)["mean"] == pytest.approx(first["mean"])


def test_a_score_that_is_never_defined_has_no_interval():
    scores = {"CHAIR_i": ratio_of(np.zeros(3), np.zeros(3))}
    assert np.isnan(bootstrap(scores, 10)["CHAIR_i"]).all()


def test_one_sample_is_too_few():
    with pytest.raises(ConfigError, match="1 bootstrap samples: an interval takes 2"):
        bootstrap({"mean": mean_of([1.0])}, 1)
