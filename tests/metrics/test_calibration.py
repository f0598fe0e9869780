import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional.classification import binary_calibration_error

from mmattn.batch import IGNORE
from mmattn.errors import DataError
from mmattn.metrics.calibration import (
    brier_score,
    confidences,
    expected_calibration_error,
    reliability,
)


def slow_error(confidence, correct, bins):
    """Guo et al. 2017, equations 2 and 5, with exact fractions: bins ((m - 1)/M, m/M]."""
    error = Fraction(0)
    for m in range(1, bins + 1):
        chosen = [
            (p, right)
            for p, right in zip(confidence, correct, strict=True)
            if Fraction(m - 1, bins) < p <= Fraction(m, bins) or (p == 0 and m == 1)
        ]
        gap = sum((Fraction(right) - p for p, right in chosen), Fraction(0))
        error += abs(gap) / len(confidence)
    return float(error)


# Of 64 steps and 16 bins, four steps a bin: many values lie on an edge.
examples = st.lists(st.tuples(st.integers(0, 64), st.booleans()), min_size=1, max_size=20)


@given(examples)
def test_the_error_is_that_of_the_definition_also_on_edges(examples):
    steps, correct = zip(*examples, strict=True)
    confidence, correct = torch.tensor(steps) / 64, torch.tensor(correct)
    found = expected_calibration_error(confidence, correct, bins=16)
    expected = slow_error([Fraction(step, 64) for step in steps], correct.tolist(), 16)
    assert found == pytest.approx(expected, abs=1e-12)


def test_it_equals_torchmetrics_away_from_edges():
    rng = torch.Generator().manual_seed(0)
    confidence = torch.rand(200, generator=rng)
    correct = torch.rand(200, generator=rng) < confidence**2
    expected = binary_calibration_error(confidence, correct.long(), n_bins=15).item()
    assert expected_calibration_error(confidence, correct) == pytest.approx(expected, abs=1e-6)


def test_bins_hold_means_and_counts():
    confidence = torch.tensor([0.05, 0.5, 0.45, 0.9, 1.0])
    found = reliability(confidence, torch.tensor([0.0, 1.0, 0.5, 1.0, 1.0]), bins=4)
    assert found.edges.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert found.count.tolist() == [1, 2, 0, 2]
    expected = torch.tensor([0.05, 0.475, math.nan, 0.95], dtype=torch.double)
    torch.testing.assert_close(found.confidence, expected, equal_nan=True, rtol=0, atol=1e-7)
    assert found.accuracy.tolist() == pytest.approx([0, 0.75, math.nan, 1], nan_ok=True)
    assert found.error == pytest.approx((0.05 + 2 * 0.275 + 2 * 0.05) / 5)


def test_adaptive_bins_hold_equally_many():
    confidence = torch.linspace(0.905, 1, 20)
    correct = torch.arange(20) % 2 == 0
    wide = reliability(confidence, correct)
    assert sorted(wide.count.tolist())[:13] == [0] * 13
    narrow = reliability(confidence, correct, bins=5, adaptive=True)
    assert narrow.count.tolist() == [4] * 5
    assert narrow.error == pytest.approx((confidence.mean() - 0.5).item(), abs=1e-6)


@given(examples, st.randoms())
def test_the_order_of_examples_does_not_change_adaptive_bins(examples, chance):
    orders = examples, chance.sample(examples, len(examples))
    found = []
    for order in orders:
        steps, correct = (torch.tensor(each) for each in zip(*order, strict=True))
        found.append(reliability(steps / 64, correct, bins=5, adaptive=True))
    assert found[0].count.tolist() == found[1].count.tolist()
    assert found[0].count.sum() == len(examples)
    assert found[0].error == pytest.approx(found[1].error, abs=1e-12)


def test_equal_confidences_share_an_adaptive_bin():
    found = reliability(torch.full((9,), 0.75), torch.arange(9) < 6, bins=3, adaptive=True)
    assert found.count.tolist() == [9, 0]
    assert found.error == pytest.approx(0.75 - 6 / 9)


def test_a_calibrated_model_has_a_small_error_and_a_sure_one_a_large_one():
    rng = torch.Generator().manual_seed(0)
    confidence = torch.rand(20_000, generator=rng)
    correct = torch.rand(20_000, generator=rng) < confidence
    assert expected_calibration_error(confidence, correct) < 0.02
    assert expected_calibration_error(confidence, correct, adaptive=True) < 0.02
    sure = torch.ones_like(confidence)
    assert expected_calibration_error(sure, correct) == pytest.approx(0.5, abs=0.02)


def test_confidences_are_those_of_the_predicted_classes():
    logits = torch.tensor([[0.0, 0.0], [0.0, 3.0], [5.0, 0.0], [9.0, 0.0]])
    confidence, correct = confidences(logits, torch.tensor([0, 0, -1, IGNORE]))
    expected = [0.5, 1 / (1 + math.exp(-3)), 1 / (1 + math.exp(-5))]
    assert confidence.tolist() == pytest.approx(expected)
    assert correct.tolist() == [True, False, False]


@pytest.mark.parametrize("broken", [-0.1, 1.1, math.nan])
def test_what_is_no_probability_is_refused(broken):
    with pytest.raises(DataError, match="1 of 2 confidences are no probabilities"):
        reliability(torch.tensor([0.5, broken]), torch.tensor([True, False]))


def test_a_sum_that_rounds_above_one_is_a_probability():
    assert reliability(torch.tensor([1 + 6e-8]), torch.tensor([True])).count[-1] == 1


def test_without_an_example_there_is_nothing_to_judge():
    with pytest.raises(DataError, match="no labelled example"):
        reliability(torch.empty(0), torch.empty(0))


def test_the_brier_score_is_that_of_scikit_learn():
    """Made with scikit-learn 1.9.1, which counts one of the two classes."""
    rng = np.random.RandomState(5)
    targets = rng.randint(0, 2, 60)
    logits = np.round(10 * (rng.randn(60, 2) + (np.arange(2) == targets[:, None])))
    probabilities = torch.tensor(logits / 10).softmax(-1)
    found = brier_score(probabilities, torch.tensor(targets))
    assert found == pytest.approx(2 * 0.13893250461936743)


def test_the_brier_score_of_other_labels():
    p = torch.tensor([[0.7, 0.2, 0.1]])
    assert brier_score(p, torch.tensor([0])) == pytest.approx(0.09 + 0.04 + 0.01)
    assert brier_score(p, torch.tensor([-1])) == pytest.approx(0.49 + 0.04 + 0.01 + 1)
    assert brier_score(p, torch.tensor([[1.0, 0.5, 0.0]])) == pytest.approx(0.09 + 0.09 + 0.01)
    assert brier_score(p, torch.tensor([[True, True, False]])) == pytest.approx(0.09 + 0.64 + 0.01)


def test_the_brier_score_leaves_out_what_has_no_label():
    p = torch.tensor([[0.7, 0.3], [0.1, 0.9]])
    assert brier_score(p, torch.tensor([0, IGNORE])) == pytest.approx(0.18)
    ignored = torch.tensor([[1.0, 0.0], [IGNORE, IGNORE]])
    assert brier_score(p, ignored) == pytest.approx(0.18)
    with pytest.raises(DataError, match="none of 2 examples has a label"):
        brier_score(p, torch.tensor([IGNORE, IGNORE]))
