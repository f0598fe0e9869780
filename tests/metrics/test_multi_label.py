import math

import numpy as np
import pytest
import torch

from mmattn.batch import IGNORE
from mmattn.metrics.multi_label import MultiLabelScores


def scored(logits, targets):
    logits, targets = torch.as_tensor(logits).float(), torch.as_tensor(targets)
    scores = MultiLabelScores(logits.shape[1])
    scores.update(torch.arange(len(logits)), logits, targets)
    return scores.compute()


def problem():
    """Logits with ties; one example has the last class."""
    rng = np.random.RandomState(3)
    targets = (rng.rand(60, 5) < 0.3).astype(int)
    targets[:, 4] = np.arange(60) == 0
    return np.round(rng.randn(60, 5) + 2 * targets - 1, 1), targets.astype(bool)


def test_the_numbers_are_those_of_scikit_learn():
    """Made with scikit-learn 1.9.1."""
    expected = {
        "f1_macro": 0.5957575757575756,
        "f1_micro": 0.6703910614525139,
        "auroc": 0.9236612909507645,
        "average_precision": 0.8695713777352113,
        "subset_accuracy": 0.31666666666666665,
        "hamming": 0.19666666666666666,
    }
    assert scored(*problem()) == pytest.approx(expected)


def test_numbers_may_say_what_booleans_do():
    logits, targets = problem()
    assert scored(logits, targets.astype(np.float32)) == scored(logits, targets)


def test_examples_without_a_label_do_not_count():
    logits, targets = problem()
    without = np.full((4, 5), float(IGNORE), np.float32)
    more = np.concatenate([logits, np.full((4, 5), np.nan)])
    assert scored(more, np.concatenate([targets.astype(np.float32), without])) == scored(
        logits, targets
    )


def test_a_class_that_nobody_has_and_one_that_all_have_are_not_ranked():
    logits = [[1.0, 2.0, -1.0], [-1.0, 3.0, -2.0]]
    found = scored(logits, [[True, True, False], [False, True, False]])
    assert found["auroc"] == found["average_precision"] == 1.0  # of the first class
    assert found["f1_macro"] == 1.0  # of the first two: nothing speaks of the third


def test_where_no_example_has_a_class_what_can_be_counted_is():
    found = scored([[-1.0, -2.0], [-1.0, -3.0]], torch.zeros(2, 2).bool())
    assert found["subset_accuracy"] == 1.0
    assert found["hamming"] == 0.0
    names = ("f1_macro", "f1_micro", "auroc", "average_precision")
    assert all(math.isnan(found[name]) for name in names)


def test_one_example_is_enough():
    found = scored([[1.0, -1.0, 1.0]], [[True, True, False]])
    assert found["hamming"] == pytest.approx(2 / 3)
    assert found["f1_micro"] == pytest.approx(1 / 2)
    assert math.isnan(found["auroc"])


@pytest.mark.parametrize("row", [[0.5, 0.0], [-1.0, 1.0], [float(IGNORE), 1.0]])
def test_a_target_that_is_neither_0_nor_1_is_refused(row):
    with pytest.raises(ValueError, match="are 0 or 1"):
        scored([[1.0, 1.0]] * 2, [[0.0, 1.0], row])
