import math

import pytest
import torch

from mmattn.batch import IGNORE
from mmattn.metrics.class_counts import (
    balanced_accuracy,
    confusion_matrix,
    count_multi,
    count_single,
    f1_macro,
    f1_micro,
)


def test_classes_are_counted_and_labels_outside_them_are_a_further_one():
    counts = count_single(torch.tensor([0, 0, 1, 1, 1]), torch.tensor([0, 1, 1, -1, -1]), 3)
    assert counts.right.tolist() == [1, 1, 0, 0]
    assert counts.occurring.tolist() == [1, 2, 0, 2]
    assert counts.predicted.tolist() == [2, 3, 0, 0]
    # recalls 1, 1/2 and 0 of what is outside; class 2 does not occur
    assert balanced_accuracy(counts) == pytest.approx((1 + 0.5 + 0) / 3)
    assert f1_macro(counts) == pytest.approx((2 / 3 + 2 / 5 + 0) / 3)
    assert f1_micro(counts) == pytest.approx(2 / 5)


def test_a_class_that_is_predicted_but_does_not_occur_lowers_f1_and_not_the_recall():
    counts = count_single(torch.tensor([0, 2]), torch.tensor([0, 0]), 3)
    assert balanced_accuracy(counts) == 0.5
    assert f1_macro(counts) == pytest.approx((2 / 3 + 0) / 2)


def test_several_classes_of_an_example_count_each():
    predicted = torch.tensor([[True, True, False], [False, True, False]])
    targets = torch.tensor([[True, False, False], [False, True, False]])
    counts = count_multi(predicted, targets)
    assert counts.right.tolist() == [1, 1, 0]
    assert f1_macro(counts) == pytest.approx((1 + 2 / 3) / 2)  # the third class is in neither
    assert f1_micro(counts) == pytest.approx(4 / 5)


def test_where_nothing_was_counted_there_is_no_number():
    counts = count_multi(torch.zeros(2, 3).bool(), torch.zeros(2, 3).bool())
    assert all(math.isnan(score(counts)) for score in (balanced_accuracy, f1_macro, f1_micro))


def test_the_confusion_matrix_has_true_classes_as_rows():
    predicted = torch.tensor([0, 1, 1, 2, 2, 0])
    targets = torch.tensor([0, 0, 1, 1, -1, IGNORE])
    assert confusion_matrix(predicted, targets, 3).tolist() == [[1, 1, 0], [0, 1, 1], [0, 0, 0]]
