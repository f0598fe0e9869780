"""Scores of a head that chooses among answers of which each has a score: questions about images."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from mmattn.metrics.label_metric import LabelMetric, check_classes, labelled_rows

FIRST = 5  # answers of which an example keeps the scores


class SoftLabelScores(LabelMetric):
    """Scores of the chosen answers, where each answer of the classes has a score in [0, 1].

    Keeps 42 bytes a question, not its thousands of logits.

    Args:
        classes: number C of the answers.
    """

    def __init__(self, classes: int, **kwargs: Any) -> None:
        columns = {
            "first_scores": torch.empty(0, min(FIRST, classes)),
            "best_score": torch.empty(0),
            "confidence": torch.empty(0),  # of the chosen answer, for calibration and selection
            "nll": torch.empty(0),
        }
        super().__init__(columns, **kwargs)
        self.classes = classes

    def update(
        self, keys: Int[Tensor, "B"], logits: Float[Tensor, "B C"], targets: Float[Tensor, "B C"]
    ) -> None:
        """Add questions.

        Args:
            keys: hashes of their keys, such as `stable_hash` gives.
            logits: of the answers.
            targets: scores of the answers, all 0 where none of the classes is right; or a row of
                `IGNORE` for a question without a label, which is left out.

        Raises:
            ValueError: for a score outside 0 to 1.
        """
        check_classes(logits, self.classes)
        labelled, finite = labelled_rows(targets), logits.isfinite().all(-1)
        if not ((targets >= 0) & (targets <= 1))[labelled].all():
            raise ValueError("the scores of answers must lie between 0 and 1")
        # Stable: half precision makes ties, and of equal logits the first answer comes first.
        first = logits.argsort(dim=-1, descending=True, stable=True)[:, :FIRST]
        losses = binary_cross_entropy_with_logits(
            logits.float(), targets.float().clamp(0, 1), reduction="none"
        )
        self._add(
            keys,
            labelled,
            finite,
            first_scores=targets.gather(-1, first),
            best_score=targets.amax(-1),
            confidence=logits.float().amax(-1).sigmoid(),
            nll=losses.sum(-1),
        )

    def scores(self, rows: dict[str, Tensor]) -> dict[str, float]:
        """Return the scores, from the columns that `update` has kept.

        vqa_accuracy, the mean score of the answer with the largest logit; vqa_accuracy_top5, with
        more than five answers, that of the best of the five with the largest; accuracy, the share
        of questions whose chosen answer has the best score of all, which is not 0; nll, in nats,
        the binary cross-entropy summed over answers.

        A question that none of the classes answers counts as wrong: it scores 0.
        """
        first, best = rows["first_scores"].double(), rows["best_score"].double()
        scores = {"vqa_accuracy": first[:, 0].mean().item()}
        if self.classes > FIRST:
            scores["vqa_accuracy_top5"] = first.amax(-1).mean().item()
        chosen_best = (first[:, 0] == best) & (best > 0)
        return scores | {
            "accuracy": chosen_best.double().mean().item(),
            "nll": rows["nll"].double().mean().item(),
        }
