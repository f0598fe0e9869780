"""The most confident mistakes are the most confident, and mistakes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmattn.training.pictures.mistakes import confident_mistakes


@given(
    st.lists(
        st.tuples(st.lists(st.integers(-3, 3), min_size=3, max_size=3), st.integers(-1, 2)),
        min_size=1,
        max_size=20,
    ),
    st.integers(0, 8),
)
def test_those_of_single_classes_are_found_by_plain_python(examples, count):
    logits, targets = (list(each) for each in zip(*examples, strict=True))
    rows = {
        "keys": torch.arange(len(examples)) + 100,
        "logits": torch.tensor(logits).float(),
        "targets": torch.tensor(targets),
    }
    found = confident_mistakes("single", rows, count)
    shares = rows["logits"].softmax(-1)
    wrong = [n for n, row in enumerate(logits) if row.index(max(row)) != targets[n]]
    assert {key - 100 for key in found} <= set(wrong)
    assert len(found) == len(set(found)) == min(count, len(wrong))
    sure = sorted((float(shares[n].max()) for n in wrong), reverse=True)[:count]
    assert [float(shares[key - 100].max()) for key in found] == pytest.approx(sure)


def test_probabilities_that_round_to_one_are_still_told_apart():
    logits = torch.tensor([[60.0, 0.0], [90.0, 0.0], [75.0, 0.0]])
    rows = {"keys": torch.arange(3), "logits": logits, "targets": torch.ones(3).long()}
    assert confident_mistakes("single", rows, 3) == [1, 2, 0]


def test_of_many_classes_only_what_is_predicted_and_not_there_is_a_mistake():
    rows = {
        "keys": torch.tensor([5, 6, 7, 8]),
        "logits": torch.tensor([[2.0, 1.0], [3.0, 4.0], [-1.0, -2.0], [0.5, 0.1]]),
        "targets": torch.tensor([[True, False], [True, False], [False, True], [False, True]]),
    }
    assert confident_mistakes("multi", rows, 9) == [6, 8]


def test_an_answer_that_scores_nothing_is_a_mistake():
    rows = {
        "keys": torch.tensor([5, 6, 7]),
        "confidence": torch.tensor([0.2, 0.9, 0.99]),
        "first_scores": torch.tensor([[0.0, 1.0], [0.0, 0.0], [0.3, 1.0]]),
    }
    assert confident_mistakes("soft", rows, 9) == [6, 5]
    assert confident_mistakes("soft", rows, 1) == [6]
