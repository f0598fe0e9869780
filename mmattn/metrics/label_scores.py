"""The scores of a head of a classifier, by its kind."""

from collections.abc import Sequence
from typing import Literal

from mmattn.metrics.label_metric import LabelMetric
from mmattn.metrics.multi_label import MultiLabelScores
from mmattn.metrics.single_label import SingleLabelScores
from mmattn.metrics.soft_label import SoftLabelScores
from mmattn.metrics.word_label import WordLabelScores

__all__ = [
    "MultiLabelScores",
    "SingleLabelScores",
    "SoftLabelScores",
    "WordLabelScores",
    "label_scores",
]


def label_scores(
    kind: Literal["single", "multi", "soft", "words"], classes: Sequence[str]
) -> LabelMetric:
    """Return the metric for a head of a kind, with the names of its classes.

    All are called alike: `update(keys, logits, targets)`, and `compute()` for numbers by flat name.
    """
    if kind == "words":
        return WordLabelScores(classes)
    kinds = {"single": SingleLabelScores, "multi": MultiLabelScores, "soft": SoftLabelScores}
    return kinds[kind](len(classes))
