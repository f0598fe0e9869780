"""How often each class occurs, is predicted, and is predicted rightly; and what follows from it."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor


class ClassCounts(NamedTuple):
    """Numbers of examples for each of C classes.

    `right` counts those that have the class and were predicted to, `occurring` those that have it,
    `predicted` those that were predicted to.
    """

    right: Int[Tensor, "C"]
    occurring: Int[Tensor, "C"]
    predicted: Int[Tensor, "C"]


def count_single(
    predicted: Int[Tensor, "N"], targets: Int[Tensor, "N"], classes: int
) -> ClassCounts:
    """Count for examples of one class each: C is `classes` + 1.

    The last class is that of all labels outside the classes (-1): it is never predicted.
    """
    named = torch.where(targets < 0, classes, targets)
    right = named[predicted == named]
    counts = (each.bincount(minlength=classes + 1) for each in (right, named, predicted))
    return ClassCounts(*counts)


def count_multi(predicted: Bool[Tensor, "N C"], targets: Bool[Tensor, "N C"]) -> ClassCounts:
    """Count for examples of any number of classes each."""
    return ClassCounts((predicted & targets).sum(0), targets.sum(0), predicted.sum(0))


def balanced_accuracy(counts: ClassCounts) -> float:
    """The mean recall over the classes that occur; NaN where none does."""
    occurs = counts.occurring > 0
    return (counts.right[occurs].double() / counts.occurring[occurs]).mean().item()


def f1_macro(counts: ClassCounts) -> float:
    """The mean F1 over the classes that occur or are predicted; NaN where there is none.

    scikit-learn's default gives the others, of which nothing is known, an F1 of 0.
    """
    total = counts.occurring + counts.predicted
    return (2 * counts.right[total > 0].double() / total[total > 0]).mean().item()


def f1_micro(counts: ClassCounts) -> float:
    """F1 of all decisions together, 2·TP / (2·TP + FP + FN); NaN where there is none."""
    total = (counts.occurring + counts.predicted).sum().double()
    return (2 * counts.right.sum() / total).item()


def confusion_matrix(
    predicted: Int[Tensor, "N"], targets: Int[Tensor, "N"], classes: int
) -> Int[Tensor, "C C"]:
    """How many examples of each class (rows) were predicted to be of each class (columns).

    Labels outside the classes (negative: -1 and `IGNORE`) have no row and are left out.
    """
    named = targets >= 0
    cells = targets[named] * classes + predicted[named]
    return cells.bincount(minlength=classes**2).view(classes, classes)
