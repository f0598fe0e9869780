from itertools import pairwise, permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmattn.errors import DataError
from mmattn.metrics.selective import risk_coverage

examples = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=6)


def of(examples):
    steps, scores = (torch.tensor(each) for each in zip(*examples, strict=True))
    return risk_coverage(steps / 4, scores / 4)


@given(examples)
def test_the_curve_is_the_mean_over_all_orders_of_equal_confidences(examples):
    orders = [order for order in permutations(examples) if is_sorted(order)]
    curves = [[1 - score / 4 for _, score in order] for order in orders]
    each = np.cumsum(np.array(curves), axis=1) / np.arange(1, len(examples) + 1)
    assert of(examples).risk.tolist() == pytest.approx(each.mean(0))


def is_sorted(order):
    return all(a[0] >= b[0] for a, b in pairwise(order))


def test_the_areas_of_a_small_example_by_hand():
    """Risks 0, 1/2, 1/3; the wrong answer last would have 0, 0, 1/3."""
    found = risk_coverage(torch.tensor([0.5, 0.9, 0.7]), torch.tensor([True, True, False]))
    assert found.coverage.tolist() == pytest.approx([1 / 3, 2 / 3, 1])
    assert found.threshold.tolist() == pytest.approx([0.9, 0.7, 0.5])
    assert found.area == pytest.approx((0 + 1 / 2 + 1 / 3) / 3)
    assert found.excess_area == pytest.approx(1 / 2 / 3)


@given(examples)
def test_no_confidences_beat_those_that_put_wrong_answers_last(examples):
    best = of([(score, score) for _, score in examples])
    assert best.excess_area == pytest.approx(0)
    assert of(examples).excess_area >= -1e-12
    assert of(examples).area >= best.area - 1e-12


def test_a_constant_confidence_risks_the_error_rate_at_every_coverage():
    found = risk_coverage(torch.full((8,), 0.3), torch.arange(8) < 2)
    assert found.risk.tolist() == pytest.approx([0.75] * 8)
    assert found.area == pytest.approx(0.75)


def test_accuracy_at_a_coverage():
    confidence = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05])
    found = risk_coverage(confidence, torch.arange(10) < 5)
    assert found.accuracy_at(0.3) == found.accuracy_at(0.5) == 1.0
    assert found.accuracy_at(0.51) == pytest.approx(5 / 6)
    assert found.accuracy_at(1e-9) == 1.0
    assert found.accuracy_at(1.0) == 0.5
    third = risk_coverage(confidence, torch.arange(10) < 3)
    assert third.accuracy_at(0.1 + 0.2) == third.accuracy_at(0.3) == 1.0  # as floats they differ


@pytest.mark.parametrize("coverage", [0.0, -0.1, 1.1])
def test_a_coverage_that_is_no_share_is_refused(coverage):
    with pytest.raises(ValueError, match="coverage is a share"):
        of([(1, 1)]).accuracy_at(coverage)


def test_coverage_at_a_risk():
    found = risk_coverage(torch.tensor([0.9, 0.8, 0.7, 0.6]), torch.tensor([1.0, 0, 1, 1]))
    assert found.coverage_at(0.0) == 0.25
    assert found.coverage_at(0.25) == 1.0  # the risk falls again: 0, 1/2, 1/3, 1/4
    assert found.coverage_at(0.24) == 0.25
    wrong = risk_coverage(torch.tensor([0.9, 0.8]), torch.tensor([0.0, 1.0]))
    assert wrong.coverage_at(0.1) == 0.0


def test_a_threshold_cannot_part_equal_confidences():
    found = risk_coverage(torch.tensor([0.9, 0.5, 0.5, 0.5]), torch.tensor([1.0, 1, 0, 0]))
    assert found.coverage_at(0.4) == 0.25
    assert found.coverage_at(0.5) == 1.0


def test_no_example_and_no_probability_are_refused():
    with pytest.raises(DataError, match="no labelled example"):
        risk_coverage(torch.empty(0), torch.empty(0))
    with pytest.raises(DataError, match="1 of 1 confidences"):
        risk_coverage(torch.tensor([float("nan")]), torch.tensor([True]))
