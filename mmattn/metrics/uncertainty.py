"""How unsure several passes are, and whether for want of data or because the case is ambiguous."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.errors import DataError
from mmattn.metrics.precision import in_double


class Uncertainty(NamedTuple):
    """What S passes over the same examples say together; entropies are in nats.

    Attributes:
        mean: the mean probabilities.
        predictive_entropy: of the mean: all uncertainty.
        expected_entropy: the mean over passes: what each of them is unsure of, which more training
            data would not change.
        mutual_information: the difference of the two, what the passes disagree on (BALD, Houlsby et
            al. 2011).
        variation_ratio: the share of passes that do not choose the class that most of them choose.
    """

    mean: Float[Tensor, "*B C"]
    predictive_entropy: Float[Tensor, "*B"]
    expected_entropy: Float[Tensor, "*B"]
    mutual_information: Float[Tensor, "*B"]
    variation_ratio: Float[Tensor, "*B"]


def uncertainty(probabilities: Float[Tensor, "S *B C"]) -> Uncertainty:
    """Measure the uncertainty of S passes: dropout kept on (Gal and Ghahramani 2016), or models.

    Args:
        probabilities: of C classes, which add up to 1. Of a head of independent classes hand in
            each class as two, p and 1 - p: [S, B, classes, 2].

    Raises:
        DataError: there is no pass, or a value is no probability.
    """
    p = in_double(probabilities)
    _check(p)
    mean = p.mean(0)
    predictive, expected = _entropy(mean), _entropy(p).mean(0)
    votes = torch.nn.functional.one_hot(p.argmax(-1), p.shape[-1]).double().mean(0)
    return Uncertainty(
        mean, predictive, expected, (predictive - expected).clamp(min=0), 1 - votes.amax(-1)
    )


def _entropy(p: Float[Tensor, "*B C"]) -> Float[Tensor, "*B"]:
    return -torch.special.xlogy(p, p).sum(-1)


def _check(probabilities: Tensor) -> None:
    if not len(probabilities):
        raise DataError("no uncertainty can be measured: there is no pass")
    total = probabilities.sum(-1)
    # Half precision may miss 1 by a few thousandths.
    if not ((probabilities >= 0).all() and ((total - 1).abs() < 0.02).all()):
        raise DataError(
            "the probabilities of the classes must be at least 0 and add up to 1 in each pass: "
            f"their sums are {total.min():.4g} to {total.max():.4g}"
        )
