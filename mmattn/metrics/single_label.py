"""Scores of a head that gives each example one class."""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmattn.batch import IGNORE
from mmattn.metrics.calibration import expected_calibration_error
from mmattn.metrics.class_counts import balanced_accuracy, count_single, f1_macro, f1_micro
from mmattn.metrics.label_metric import LabelMetric, check_classes, check_targets
from mmattn.metrics.ranking import ranking


class SingleLabelScores(LabelMetric):
    """Accuracy, F1, ranking and calibration where each example has one class.

    Keeps 4·C bytes an example: 50,000 of 1,000 classes are 200 MB, and computing needs about five
    times as much for a moment.

    Args:
        classes: number C of the classes.
    """

    def __init__(self, classes: int, **kwargs: Any) -> None:
        columns = {"logits": torch.empty(0, classes), "targets": torch.empty(0, dtype=torch.long)}
        super().__init__(columns, **kwargs)
        self.classes = classes

    def update(
        self, keys: Int[Tensor, "B"], logits: Float[Tensor, "B C"], targets: Int[Tensor, "B"]
    ) -> None:
        """Add examples.

        Args:
            keys: hashes of their keys, such as `stable_hash` gives.
            logits: of the classes.
            targets: the class, -1 for a label outside the classes, or `IGNORE` for none: such an
                example is left out.

        Raises:
            ValueError: for any other target.
        """
        check_classes(logits, self.classes)
        check_targets(targets, self.classes)
        finite = logits.isfinite().all(-1)
        self._add(keys, targets != IGNORE, finite, logits=logits, targets=targets)

    def scores(self, rows: dict[str, Tensor]) -> dict[str, float]:
        """Return the scores, from logits [N, C] and targets [N].

        accuracy; accuracy_top5 with more than five classes (of equal logits the first class comes
        first); balanced_accuracy, the mean recall over the classes that occur; f1_macro over those
        that occur or are predicted; f1_micro; auroc and average_precision, one class against the
        rest, the mean over classes that some examples have and some do not (of two classes: of the
        second one); nll in nats; ece, see `expected_calibration_error`.

        An example with a label outside the classes counts as wrong: as one of a further class of
        recall and F1 zero, and as one of "the rest" for each class. It has no likelihood: nll
        leaves it out.
        """
        logits, targets = rows["logits"], rows["targets"]
        predicted = logits.argmax(-1)
        right = predicted == targets
        counts = count_single(predicted, targets, self.classes)
        log_probs = logits.double().log_softmax(-1)
        confidence = log_probs.amax(-1).exp()
        return {
            "accuracy": right.double().mean().item(),
            **({"accuracy_top5": _top5(logits, targets)} if self.classes > 5 else {}),
            "balanced_accuracy": balanced_accuracy(counts),
            "f1_macro": f1_macro(counts),
            "f1_micro": f1_micro(counts),
            **_one_against_rest(log_probs, targets),
            "nll": _negative_log_likelihood(log_probs, targets),
            "ece": expected_calibration_error(confidence, right),
        }


def _top5(logits: Float[Tensor, "N C"], targets: Int[Tensor, "N"]) -> float:
    return among_first(logits, targets, 5).double().mean().item()


def among_first(
    logits: Float[Tensor, "N C"], targets: Int[Tensor, "N"], k: int
) -> Bool[Tensor, "N"]:
    """Whether the class of each example is among the k with the largest logits.

    Of equal logits the first class comes first, as in `argmax`; a negative target is never found.
    """
    own = logits.gather(1, targets.clamp(min=0)[:, None])
    earlier = torch.arange(logits.shape[1], device=logits.device) < targets[:, None]
    ahead = (logits > own) | ((logits == own) & earlier)
    return (ahead.sum(1) < k) & (targets >= 0)


def _one_against_rest(
    log_probs: Float[Tensor, "N C"], targets: Int[Tensor, "N"]
) -> dict[str, float]:
    classes = torch.arange(log_probs.shape[1], device=targets.device)
    found = ranking(log_probs, targets[:, None] == classes)
    # Two classes are two sides of one question, and average precision depends on the side.
    found = [each[1] if len(classes) == 2 else each.nanmean() for each in found]
    return {"auroc": found[0].item(), "average_precision": found[1].item()}


def _negative_log_likelihood(log_probs: Float[Tensor, "N C"], targets: Int[Tensor, "N"]) -> float:
    named = targets >= 0
    return -log_probs[named].gather(1, targets[named, None]).mean().item()
