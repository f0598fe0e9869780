"""The loss of one head, by the kind of its labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from mmattn.batch import IGNORE
from mmattn.errors import ConfigError


@dataclass(frozen=True)
class LossOptions:
    """How a head's mistakes count.

    Attributes:
        weight: of this head's loss in the sum over heads.
        label_smoothing: share of the target's probability spread over all classes (Szegedy et al.
            2016); for heads of one class.
        focal: γ of the focal loss, which counts examples that are right already less (Lin et al.
            2017); 0 is plain cross-entropy.
        class_weights: "balanced" counts each class by the inverse of its frequency in training; or
            one number a class; None counts all alike.

    Raises:
        ConfigError: for a value out of its range.
    """

    weight: float = 1.0
    label_smoothing: float = 0.0
    focal: float = 0.0
    class_weights: str | Sequence[int | float] | None = None

    def __post_init__(self):
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(f"label_smoothing={self.label_smoothing} must lie in [0, 1)")
        if self.focal < 0 or self.weight < 0:
            raise ConfigError(f"focal={self.focal} and weight={self.weight} must not be negative")
        if isinstance(self.class_weights, str) and self.class_weights != "balanced":
            raise ConfigError(
                f"class_weights is {self.class_weights!r}; choose balanced, a list or null"
            )


def class_weights(
    options: LossOptions, kind: str, counts: Sequence[int], examples: int
) -> Float[Tensor, "C"] | None:
    """Return the weight of each class, None where all are alike.

    "balanced" is n / (C·n_c) of single classes, so that the mean over examples is 1; of classes
    that are there or not it is the weight of being there, (n - n_c) / n_c.

    Args:
        options: what was asked for.
        kind: of the head.
        counts: n_c, how often each class is a label in training.
        examples: n, how many training examples have a label.

    Raises:
        ConfigError: for weights of another number than there are classes.
    """
    if options.class_weights is None:
        return None
    if isinstance(options.class_weights, str):
        seen = torch.tensor(counts, dtype=torch.float).clamp(min=1)
        if kind in ("multi", "soft"):
            return ((examples - seen) / seen).clamp(min=0)
        return seen.sum() / (len(counts) * seen)
    if len(options.class_weights) != len(counts):
        raise ConfigError(
            f"class_weights has {len(options.class_weights)} numbers and the head {len(counts)} "
            "classes: give one a class"
        )
    return torch.tensor(list(options.class_weights), dtype=torch.float)


def head_loss(
    kind: str,
    scores: Float[Tensor, "*B C"],
    target: Tensor,
    options: LossOptions,
    weights: Float[Tensor, "C"] | None = None,
) -> Float[Tensor, ""]:
    """Return the mean loss over the examples (or words) that have a label; 0 where none has.

    One class: cross-entropy with targets that are classes [*B], or shares of them [*B, C] (mixup).
    "multi" and "soft": binary cross-entropy with scores [B, C], summed over the classes (VQA, Teney
    et al. 2018).
    """
    return mean_of(*losses_of(kind, scores, target, options, weights))


def losses_of(
    kind: str,
    scores: Float[Tensor, "*B C"],
    target: Tensor,
    options: LossOptions,
    weights: Float[Tensor, "C"] | None = None,
) -> tuple[Float[Tensor, "*B"], Bool[Tensor, "*B"]]:
    """Return the loss of every example (or word), and which of them have a label."""
    if kind in ("multi", "soft"):
        kept = (target != IGNORE).all(-1)
        return binary_loss(scores, target.clamp(min=0), options.focal, weights), kept
    kept = target >= 0
    if target.is_floating_point():
        kept, target = kept.all(-1), target.clamp(min=0)
    else:
        target = target.where(kept, 0)
    # Classes stand in the second place for cross-entropy, where words have one of their own.
    scores = scores.movedim(-1, 1)
    losses = F.cross_entropy(
        scores, target, weights, reduction="none", label_smoothing=options.label_smoothing
    )
    if options.focal:
        right = torch.exp(-F.cross_entropy(scores, target, reduction="none"))
        losses = losses * (1 - right) ** options.focal
    return losses, kept


def binary_loss(
    scores: Float[Tensor, "B C"],
    target: Float[Tensor, "B C"],
    focal: float,
    weights: Float[Tensor, "C"] | None,
) -> Float[Tensor, "B"]:
    """Return each example's binary cross-entropy, summed over the classes."""
    losses = F.binary_cross_entropy_with_logits(
        scores, target, pos_weight=weights, reduction="none"
    )
    if focal:
        found = scores.sigmoid()
        right = found * target + (1 - found) * (1 - target)
        losses = losses * (1 - right) ** focal
    return losses.sum(-1)


def mean_of(losses: Float[Tensor, "*B"], kept: Bool[Tensor, "*B"]) -> Float[Tensor, ""]:
    """Return the mean of what is kept, without waiting for a GPU to say how much that is."""
    return losses.where(kept, 0.0).sum() / kept.sum().clamp(min=1)
