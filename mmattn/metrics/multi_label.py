"""Scores of a head that gives each example any number of classes."""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmattn.metrics.class_counts import count_multi, f1_macro, f1_micro
from mmattn.metrics.label_metric import LabelMetric, check_classes, labelled_rows
from mmattn.metrics.ranking import ranking


class MultiLabelScores(LabelMetric):
    """F1, ranking and exactness where each example has any number of classes.

    Keeps 5·C bytes an example.

    Args:
        classes: number C of the classes.
    """

    def __init__(self, classes: int, **kwargs: Any) -> None:
        logits, targets = torch.empty(0, classes), torch.empty(0, classes, dtype=torch.bool)
        super().__init__({"logits": logits, "targets": targets}, **kwargs)
        self.classes = classes

    def update(
        self,
        keys: Int[Tensor, "B"],
        logits: Float[Tensor, "B C"],
        targets: Float[Tensor, "B C"] | Bool[Tensor, "B C"],
    ) -> None:
        """Add examples.

        Args:
            keys: hashes of their keys, such as `stable_hash` gives.
            logits: of the classes; a positive one predicts its class.
            targets: 1 where the example has the class, else 0; or a row of `IGNORE` for an example
                without a label, which is left out.

        Raises:
            ValueError: for any other target.
        """
        check_classes(logits, self.classes)
        labelled, own = labelled_rows(targets), targets == 1
        if not (own | (targets == 0))[labelled].all():
            raise ValueError("the targets of a head that gives several classes are 0 or 1")
        self._add(keys, labelled, logits.isfinite().all(-1), logits=logits, targets=own)

    def scores(self, rows: dict[str, Tensor]) -> dict[str, float]:
        """Return the scores, from logits [N, C] and targets [N, C].

        f1_macro over the classes that occur or are predicted; f1_micro; auroc and average_precision
        (mAP), the mean over classes that some examples have and some do not; subset_accuracy, the
        share of examples with exactly the right classes; hamming, the share of wrong decisions.
        """
        logits, targets = rows["logits"], rows["targets"]
        predicted = logits > 0
        counts = count_multi(predicted, targets)
        wrong = predicted != targets
        found = ranking(logits, targets)
        return {
            "f1_macro": f1_macro(counts),
            "f1_micro": f1_micro(counts),
            "auroc": found.auroc.nanmean().item(),
            "average_precision": found.average_precision.nanmean().item(),
            "subset_accuracy": 1 - wrong.any(-1).double().mean().item(),
            "hamming": wrong.double().mean().item(),
        }
