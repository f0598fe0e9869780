import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmattn.batch import IGNORE
from mmattn.metrics.single_label import SingleLabelScores, among_first


def scored(logits, targets):
    logits, targets = torch.as_tensor(logits).float(), torch.as_tensor(targets)
    scores = SingleLabelScores(logits.shape[1])
    scores.update(torch.arange(len(logits)), logits, targets)
    return scores.compute()


def problem(seed, examples, classes, occurring):
    """Logits with ties, and targets of the first `occurring` classes."""
    rng = np.random.RandomState(seed)
    targets = rng.randint(0, occurring, examples)
    signal = 2 * (np.arange(classes) == targets[:, None])
    return np.round(rng.randn(examples, classes) * 2 + signal, 1), targets


def test_the_numbers_are_those_of_scikit_learn():
    """Made with scikit-learn 1.9.1, of the classes that occur; the last one does not."""
    logits, targets = problem(0, 60, 7, 6)
    expected = {
        "accuracy": 0.4166666666666667,
        "accuracy_top5": 0.8666666666666667,
        "balanced_accuracy": 0.397042772042772,
        "f1_macro": 0.3546746903889761,
        "f1_micro": 0.4166666666666667,
        "auroc": 0.7448670734802718,
        "average_precision": 0.4641030546134656,
        "nll": 1.8475858619352554,
    }
    found = scored(logits, targets)
    assert found.pop("ece") > 0
    assert found == pytest.approx(expected, abs=1e-6)


def test_of_two_classes_the_second_is_ranked():
    """Made with scikit-learn 1.9.1, of whole numbers: ties stay ties."""
    rng = np.random.RandomState(5)
    targets = rng.randint(0, 2, 60)
    logits = np.round(10 * (rng.randn(60, 2) + (np.arange(2) == targets[:, None])))
    found = scored(logits, targets)
    assert found["auroc"] == pytest.approx(0.890625)
    assert found["average_precision"] == pytest.approx(0.8526264202415097)
    assert found["f1_macro"] == pytest.approx(0.783273131425396)
    assert "accuracy_top5" not in found


def slow_scores(logits, targets):
    """Plain Python, for labels inside and outside the classes."""
    classes = range(len(logits[0]))
    predicted = [row.index(max(row)) for row in logits]
    pairs = list(zip(predicted, targets, strict=True))
    recalls, f1s = [], []
    for c in {*predicted, *targets}:
        right = sum(p == t == c for p, t in pairs)
        if c in targets:
            recalls.append(right / targets.count(c))
        f1s.append(2 * right / (targets.count(c) + predicted.count(c)))
    sums = [sum(math.exp(x) for x in row) for row in logits]
    named = [i for i, t in enumerate(targets) if t >= 0]
    losses = [math.log(sums[i]) - logits[i][targets[i]] for i in named]
    order = [sorted(classes, key=lambda c: (-row[c], c)) for row in logits]
    return {
        "accuracy": sum(p == t for p, t in pairs) / len(pairs),
        "accuracy_top5": sum(t in o[:5] for o, t in zip(order, targets, strict=True)) / len(pairs),
        "balanced_accuracy": sum(recalls) / len(recalls),
        "f1_macro": sum(f1s) / len(f1s),
        "f1_micro": sum(p == t for p, t in pairs) / len(pairs),
        "nll": sum(losses) / len(losses) if losses else float("nan"),
    }


row = st.lists(st.integers(-3, 3), min_size=7, max_size=7)
examples = st.lists(st.tuples(row, st.integers(-1, 6)), min_size=1, max_size=15)


@given(examples)
def test_the_numbers_are_those_of_plain_python(examples):
    logits, targets = (list(each) for each in zip(*examples, strict=True))
    found = scored(logits, targets)
    expected = slow_scores(logits, targets)
    assert {name: found[name] for name in expected} == pytest.approx(expected, nan_ok=True)


def test_an_open_label_counts_as_wrong():
    logits = [[5.0, 0.0, 0.0], [0.0, 5.0, 0.0], [0.0, 0.0, 5.0], [9.0, 0.0, 0.0]]
    closed, opened = scored(logits[:3], [0, 1, 2]), scored(logits, [0, 1, 2, -1])
    assert closed["accuracy"] == closed["balanced_accuracy"] == closed["f1_macro"] == 1.0
    assert opened["accuracy"] == opened["f1_micro"] == opened["balanced_accuracy"] == 0.75
    assert opened["f1_macro"] == pytest.approx((2 / 3 + 1 + 1 + 0) / 4)
    assert opened["auroc"] < closed["auroc"] == 1.0
    assert opened["nll"] == pytest.approx(closed["nll"])
    assert opened["ece"] > closed["ece"]


def test_examples_without_a_label_do_not_count():
    logits, targets = problem(1, 20, 4, 4)
    with_others = np.concatenate([targets, [IGNORE] * 5])
    padded = np.concatenate([logits, np.full((5, 4), 9.0)])
    assert scored(padded, with_others) == scored(logits, targets)


def test_predictions_without_a_label_may_be_broken():
    found = scored([[1.0, 0.0], [float("nan"), 0.0]], [0, IGNORE])
    assert found["accuracy"] == 1.0


def test_one_class_only_has_no_ranking_and_every_other_number():
    found = scored([[2.0, 0.0, 1.0], [0.0, 1.0, 0.5]], [0, 0])
    assert math.isnan(found.pop("auroc"))
    assert math.isnan(found.pop("average_precision"))
    assert found["accuracy"] == found["balanced_accuracy"] == 0.5
    assert all(math.isfinite(value) for value in found.values())


def test_one_example_is_enough():
    found = scored([[2.0, 0.0]], [0])
    assert found["accuracy"] == found["f1_macro"] == 1.0
    assert found["ece"] == pytest.approx(1 - 1 / (1 + math.exp(-2)))


def test_a_single_class_is_always_right():
    found = scored([[2.0], [-1.0]], [0, 0])
    assert found["accuracy"] == 1.0
    assert found["nll"] == found["ece"] == 0.0


def test_a_constant_prediction_is_no_ranking():
    found = scored(torch.zeros(12, 6), [0, 1, 2, 3, 4, 5] * 2)
    assert found["auroc"] == 0.5
    assert found["accuracy"] == pytest.approx(1 / 6)
    assert found["accuracy_top5"] == pytest.approx(5 / 6)


def test_half_precision_is_taken_as_it_is():
    logits, targets = problem(2, 30, 6, 6)
    rounded = torch.tensor(logits).bfloat16()
    assert scored(rounded, targets) == scored(rounded.float(), targets)


def test_confident_predictions_keep_their_order():
    """In float32 each of these probabilities is 1."""
    logits = [[20.0, 0.0], [21.0, 0.0], [22.0, 0.0], [23.0, 0.0]]
    assert scored(logits, [1, 0, 1, 0])["auroc"] == 0.75


def test_of_equal_logits_the_first_class_comes_first():
    logits, targets = torch.tensor([[1.0, 2.0, 2.0, 0.0]] * 5), torch.tensor([0, 1, 2, 3, -1])
    assert among_first(logits, targets, 1).tolist() == [False, True, False, False, False]
    assert among_first(logits, targets, 2).tolist() == [False, True, True, False, False]


@pytest.mark.parametrize("target", [4, -2, 100])
def test_a_target_that_is_no_class_is_refused(target):
    with pytest.raises(ValueError, match=f"a target is {target}: give 0 to 3, -1 .* or -100"):
        scored(torch.zeros(2, 4), [0, target])


def test_logits_of_other_classes_are_refused():
    with pytest.raises(ValueError, match=r"3 classes need as many logits, got \(2, 4\)"):
        SingleLabelScores(3).update(torch.arange(2), torch.zeros(2, 4), torch.zeros(2).long())
