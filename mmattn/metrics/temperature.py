"""One number that makes a trained model as sure as it is right: the temperature of its logits."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmattn.batch import IGNORE
from mmattn.errors import DataError
from mmattn.metrics.precision import with_double

COLDEST, HOTTEST = 0.01, 100.0
TOLERANCE = 1e-9
ROWS = 4096  # examples that are in double precision at once


def fit_temperature(
    logits: Float[Tensor, "N C"],
    targets: Int[Tensor, "N"] | Float[Tensor, "N C"] | Bool[Tensor, "N C"],
) -> float:
    """Return the T for which logits / T make the labels most probable (Guo et al. 2017).

    Args:
        logits: of held-out examples, validation and not training.
        targets: classes, where probabilities are a softmax; or a value in [0, 1] for each class,
            where they are sigmoids and the loss is the binary cross-entropy. Examples of `IGNORE`,
            and labels outside the classes (-1), which no T makes probable, are left out.

    The loss is convex in 1/T. The result is where it is least between 0.01 and 100, the same each
    time. It is an end of that range where the loss falls until there: 0.01 where every example is
    right, 100 where guessing is better. Where T does not matter it is 1.

    Raises:
        DataError: no example has a label among the classes, or logits are not finite.
    """
    logits, targets = _labelled(with_double(logits), with_double(targets))

    def slope(inverse: float) -> tuple[float, float]:
        return _slope(logits, targets, inverse)

    (hot, _), (cold, _) = slope(1 / HOTTEST), slope(1 / COLDEST)
    if hot == cold == 0:
        return 1.0
    if hot >= 0 or cold <= 0:
        return HOTTEST if hot >= 0 else COLDEST
    return 1 / _root(slope, 1 / HOTTEST, 1 / COLDEST)


def _root(slope: Callable[[float], tuple[float, float]], low: float, high: float) -> float:
    """Return where a rising slope is zero; `slope` gives it and its derivative.

    By Newton's steps; one that would leave the bracket halves it instead, in the logarithm.
    """
    at = 1.0
    while high - low > TOLERANCE * low:
        value, derivative = slope(at)
        low, high = (at, high) if value < 0 else (low, at)
        step = value / derivative if derivative > 0 else math.inf
        if abs(step) <= TOLERANCE * at:
            break
        at = at - step if low < at - step < high else math.sqrt(low * high)
    return at


def _labelled(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The examples with a label that has a likelihood."""
    labelled = (targets != IGNORE).any(-1) if targets.ndim == 2 else targets >= 0
    logits, targets = logits[labelled], targets[labelled]
    if not len(logits):
        raise DataError(
            f"no temperature can be fitted: none of {len(labelled)} examples has a label among the "
            "classes"
        )
    if broken := int((~logits.isfinite().all(-1)).sum()):
        raise DataError(
            f"no temperature can be fitted: {broken} of {len(logits)} predictions have logits that "
            "are not finite"
        )
    return logits, targets


def _slope(logits: Tensor, targets: Tensor, inverse: float) -> tuple[float, float]:
    """First and second derivative of the mean loss by 1/T."""
    sums = torch.zeros(2, dtype=torch.double, device=logits.device)
    for rows, labels in zip(logits.split(ROWS), targets.split(ROWS), strict=True):
        sums += _derivatives(rows.double(), labels, inverse)
    slope, curvature = (sums / len(logits)).tolist()
    return slope, curvature


def _derivatives(logits: Tensor, targets: Tensor, inverse: float) -> Float[Tensor, "2"]:
    """Sums over examples: of a softmax, the mean logit less the label's, and the logit's variance.

    Each sigmoid gives (p - target)·logit and p·(1 - p)·logit².
    """
    if targets.ndim == 2:
        p = (logits * inverse).sigmoid()
        first, second = (p - targets.double()) * logits, p * (1 - p) * logits.square()
        return torch.stack([first.sum(), second.sum()])
    # Logits relative to the label's: where only differences are, a sure model's slope is exactly 0.
    relative = logits - logits.gather(1, targets[:, None])
    p = (logits * inverse).softmax(-1)
    mean = (p * relative).sum(-1)
    variance = (p * (relative - mean[:, None]).square()).sum(-1)
    return torch.stack([mean.sum(), variance.sum()])
