"""The mistakes that a classifier is most sure of, from what its metrics hold of examples."""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

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
    confidence, wrong = _judged(kind, rows)
    keys = rows["keys"][wrong]
    # By hash among equals, so that neither order nor processes matter: `examples` sorts by it.
    order = confidence[wrong].argsort(descending=True, stable=True)
    return keys[order[:count]].tolist()


def _judged(kind: str, rows: Mapping[str, Tensor]) -> tuple[Float[Tensor, "N"], Bool[Tensor, "N"]]:
    """Return how sure each answer is, in an order alone, and whether it is a mistake."""
    if kind == "soft":
        return rows["confidence"], rows["first_scores"][:, 0] == 0
    logits, targets = rows["logits"], rows["targets"]
    if kind == "single":
        log_probs = logits.double().log_softmax(-1)
        # Of two probabilities that round to 1 the surer one leaves less to the other classes.
        others = log_probs.scatter(1, log_probs.argmax(-1, keepdim=True), -torch.inf)
        return -others.logsumexp(-1), logits.argmax(-1) != targets
    best = logits.max(-1)
    right = targets.gather(1, best.indices[:, None])[:, 0].bool()
    return best.values, (best.values > 0) & ~right
