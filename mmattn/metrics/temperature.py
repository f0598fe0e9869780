"""One number that makes a trained model as sure as it is right: the temperature of its logits."""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmattn.batch import IGNORE
from mmattn.errors import DataError
from mmattn.metrics.precision import with_double

COLDEST, HOTTEST = 0.01, 100.0
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

    The loss is convex in 1/T, so its slope has one zero. That is found between 0.01 and 100 by
    Newton's steps, or where these would leave the bracket, by halving it in log T: always the same
    result. Where every example is right the loss falls for ever: T is then 0.01, or the warmer one
    at which double precision has no loss left. Where T does not matter it is 1.

    Raises:
        DataError: no example has a label among the classes, or logits are not finite.
    """
    logits, targets = _labelled(with_double(logits), with_double(targets))
    low, high, inverse = 1 / HOTTEST, 1 / COLDEST, 1.0
    for _ in range(60):
        slope, curvature = _slope(logits, targets, inverse)
        if slope == 0:
            break
        low, high = (inverse, high) if slope < 0 else (low, inverse)
        step = inverse - slope / curvature if curvature > 0 else 0.0
        last, inverse = inverse, step if low < step < high else (low * high) ** 0.5
        if abs(inverse - last) < 1e-9 * last:
            break
    return 1 / inverse


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
