"""What is a mistake of a classifier, and of which it is most sure."""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmattn.batch import IGNORE

EXPLAINED = ("single", "multi", "soft")  # the kinds of heads whose answer is one class


def confident_mistakes(kind: str, rows: Mapping[str, Tensor], count: int) -> list[int]:
    """Return the keys' hashes of the `count` most confident mistakes, the most confident first.

    The answer of a head is its class with the largest score. It is a mistake where it is another
    class than the label; of a head of any number of classes, where it is predicted and not among
    the labels; of a head of scored answers, where it scores nothing.

    Args:
        kind: one of `EXPLAINED`.
        rows: of `LabelMetric.examples`.
        count: at most so many.
    """
    confidence, wrong = _sure(kind, rows)
    keys = rows["keys"][wrong]
    # By hash among equals, so that neither order nor processes matter: `examples` sorts by it.
    order = confidence[wrong].argsort(descending=True, stable=True)
    return keys[order[:count]].tolist()


def _sure(kind: str, rows: Mapping[str, Tensor]) -> tuple[Float[Tensor, "N"], Bool[Tensor, "N"]]:
    """Return how sure each answer is, in an order alone, and whether it is a mistake."""
    if kind == "soft":
        return rows["confidence"], rows["first_scores"][:, 0] == 0
    logits, targets = rows["logits"], rows["targets"]
    _, wrong = judged(kind, logits, targets)
    if kind == "multi":
        return logits.amax(-1), wrong
    log_probs = logits.double().log_softmax(-1)
    # Of two probabilities that round to 1 the surer one leaves less to the other classes.
    others = log_probs.scatter(1, log_probs.argmax(-1, keepdim=True), -torch.inf)
    return -others.logsumexp(-1), wrong


def judged(
    kind: str, scores: Float[Tensor, "B C"], targets: Tensor
) -> tuple[Int[Tensor, "B"], Bool[Tensor, "B"]]:
    """Return the right class of each example, -1 where no class is, and what is a mistake.

    Of several right classes it is the one that the model prefers, or the answer that scores most.
    An example without a label is no mistake.
    """
    predicted = scores.argmax(-1)
    if kind == "single":
        labelled = targets != IGNORE
        return torch.where(labelled, targets, -1), labelled & (predicted != targets)
    labelled = (targets != IGNORE).any(-1)
    fitting = targets > 0
    liking = targets if kind == "soft" else scores
    right = torch.where(fitting, liking, -torch.inf).argmax(-1)
    right = torch.where(fitting.any(-1), right, -1)
    chosen = fitting.gather(1, predicted[:, None])[:, 0]
    return right, labelled & ~chosen & ((scores.amax(-1) > 0) | (kind == "soft"))
