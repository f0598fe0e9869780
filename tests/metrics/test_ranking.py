import numpy as np
import pytest
import torch
import torchmetrics.functional.classification as reference
from hypothesis import given
from hypothesis import strategies as st

from mmattn.metrics import ranking as module
from mmattn.metrics.ranking import ranking


def slow_auroc(scores, positive):
    """Every pair of an example of the class and one that is not."""
    wins = [
        1.0 if p > n else 0.5 if p == n else 0.0
        for p, own in zip(scores, positive, strict=True)
        if own
        for n, other in zip(scores, positive, strict=True)
        if not other
    ]
    return sum(wins) / len(wins) if wins else float("nan")


def slow_average_precision(scores, positive):
    """The area under precision over recall, threshold by threshold."""
    if all(positive) or not any(positive):
        return float("nan")
    area = recall = 0.0
    for threshold in sorted(set(scores), reverse=True):
        found = [own for score, own in zip(scores, positive, strict=True) if score >= threshold]
        area += (sum(found) / sum(positive) - recall) * sum(found) / len(found)
        recall = sum(found) / sum(positive)
    return area


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=25))
def test_it_equals_the_definitions_with_ties_and_a_single_kind_too(examples):
    scores, positive = zip(*examples, strict=True)
    found = ranking(torch.tensor(scores)[:, None].float(), torch.tensor(positive)[:, None])
    expected = slow_auroc(scores, positive), slow_average_precision(scores, positive)
    assert [each.item() for each in found] == pytest.approx(expected, nan_ok=True)


def test_it_equals_torchmetrics_where_nothing_is_special(monkeypatch):
    monkeypatch.setattr(module, "CELLS", 150)  # two classes at a time, and a last one alone
    rng = torch.Generator().manual_seed(0)
    scores = torch.rand(60, 5, generator=rng).round(decimals=1)
    positive = torch.rand(60, 5, generator=rng) < 0.3
    found = ranking(scores, positive)
    given = {"num_labels": 5, "average": "none"}
    auroc = reference.multilabel_auroc(scores, positive.long(), **given)
    precision = reference.multilabel_average_precision(scores, positive.long(), **given)
    torch.testing.assert_close(found.auroc, auroc.double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(found.average_precision, precision.double(), atol=1e-6, rtol=0)


def test_large_scores_are_no_ties():
    """A float32 sigmoid makes 1 of each of these."""
    scores = torch.tensor([[30.0], [40.0], [50.0], [60.0]])
    found = ranking(scores, torch.tensor([[False], [True], [False], [True]]))
    assert found.auroc.item() == 0.75


def test_only_the_order_of_scores_matters():
    rng = np.random.RandomState(0)
    scores = torch.tensor(rng.randn(50, 3))
    positive = torch.tensor(rng.rand(50, 3) < 0.5)
    first, second = ranking(scores, positive), ranking(scores.exp() * 7 - 3, positive)
    assert torch.equal(first.auroc, second.auroc)
    assert torch.equal(first.average_precision, second.average_precision)
