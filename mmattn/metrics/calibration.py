"""Whether a model is as often right as it is sure: calibration error, reliability, Brier score."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmattn.batch import IGNORE
from mmattn.errors import DataError
from mmattn.metrics.precision import in_double, with_double

BINS = 15  # as in Guo et al. 2017


@dataclass(frozen=True)
class Reliability:
    """Examples by how sure the model was of them, in M bins from unsure to sure, on the CPU.

    Attributes:
        edges: the M + 1 edges of the bins; a bin holds the confidences above its lower edge, up to
            its upper one.
        confidence: the mean confidence in each bin; NaN in one without an example.
        accuracy: the share of right predictions in each bin; NaN in one without an example.
        count: the number of examples in each bin.
    """

    edges: Float[Tensor, "_"]
    confidence: Float[Tensor, "M"]
    accuracy: Float[Tensor, "M"]
    count: Int[Tensor, "M"]

    @property
    def error(self) -> float:
        """The expected calibration error: the mean gap of accuracy and confidence over examples."""
        gaps = (self.accuracy - self.confidence).abs().nan_to_num(0)
        return ((gaps * self.count).sum() / self.count.sum()).item()


def confidences(
    logits: Float[Tensor, "N C"], targets: Int[Tensor, "N"]
) -> tuple[Float[Tensor, "M"], Bool[Tensor, "M"]]:
    """Return the probability of the predicted class, and whether it is right, of labelled examples.

    A target of `IGNORE` is left out; -1, a label outside the classes, is never right.
    """
    labelled = targets != IGNORE
    most = in_double(logits[labelled]).log_softmax(-1).max(-1)
    return most.values.exp(), most.indices == targets[labelled].to(most.indices.device)


def reliability(
    confidence: Float[Tensor, "N"],
    correct: Float[Tensor, "N"] | Bool[Tensor, "N"],
    *,
    bins: int = BINS,
    adaptive: bool = False,
) -> Reliability:
    """Sort examples into bins of confidence.

    Args:
        confidence: a probability each.
        correct: whether it is right, or its score in [0, 1].
        bins: number of bins of equal width, as in Guo et al. 2017, "On calibration of modern neural
            networks".
        adaptive: bins of equally many examples instead, as in Nguyen and O'Connor 2015, "Posterior
            calibration and exploratory analysis". Equal confidences share a bin, so that the order
            of the examples does not matter: bins may then be unequal, and fewer.

    Raises:
        DataError: there is no example, or a confidence is no probability.
    """
    check_confidence(confidence)
    confidence, correct = confidence.cpu().double(), correct.cpu().double()
    edges = (
        _quantiles(confidence, bins)
        if adaptive
        else torch.linspace(0, 1, bins + 1, dtype=torch.double)
    )
    place = torch.bucketize(confidence, edges[1:-1])  # a value equal to an edge lies below it
    count = place.bincount(minlength=len(edges) - 1)
    sums = [place.bincount(each, minlength=len(count)) for each in (confidence, correct)]
    return Reliability(edges, sums[0] / count, sums[1] / count, count)


def expected_calibration_error(
    confidence: Float[Tensor, "N"],
    correct: Float[Tensor, "N"] | Bool[Tensor, "N"],
    *,
    bins: int = BINS,
    adaptive: bool = False,
) -> float:
    """Return the mean gap between confidence and accuracy over bins, weighted by their examples.

    Arguments and errors are those of `reliability`.
    """
    return reliability(confidence, correct, bins=bins, adaptive=adaptive).error


def brier_score(
    probabilities: Float[Tensor, "N C"],
    targets: Int[Tensor, "N"] | Float[Tensor, "N C"] | Bool[Tensor, "N C"],
) -> float:
    """Return the mean over examples of the squared distance of the probabilities from the truth.

    Brier 1950: the sum over classes, from 0 to 2 for single labels (scikit-learn halves it for two
    classes). Targets are classes, or a value in [0, 1] for each class; examples of `IGNORE` are
    left out. A label outside the classes (-1) is one more class of probability 0.

    Raises:
        DataError: no example has a label.
    """
    probabilities, targets = in_double(probabilities), with_double(targets)
    if targets.ndim == 2:
        truth, outside = targets.double(), torch.zeros(len(targets), device=targets.device)
        labelled = (targets != IGNORE).any(-1)
    else:
        classes = torch.arange(probabilities.shape[1], device=targets.device)
        truth, outside = (targets[:, None] == classes).double(), (targets == -1).double()
        labelled = targets != IGNORE
    if not labelled.any():
        raise DataError(f"no Brier score: none of {len(targets)} examples has a label")
    squares = (probabilities - truth).square().sum(-1) + outside
    return squares[labelled].mean().item()


def check_confidence(confidence: Float[Tensor, "N"]) -> None:
    """Raise `DataError` unless there are confidences, and all of them are probabilities."""
    if not len(confidence):
        raise DataError("there is no labelled example whose confidence could be judged")
    # A sum of float32 probabilities may miss 1 by a rounding.
    broken = int((~((confidence >= -1e-6) & (confidence <= 1 + 1e-6))).sum())
    if broken:
        raise DataError(
            f"{broken} of {len(confidence)} confidences are no probabilities from 0 to 1"
        )


def _quantiles(confidence: Float[Tensor, "N"], bins: int) -> Float[Tensor, "_"]:
    """Edges between which, ties aside, lie equally many values: 0, values of examples, 1."""
    ordered = confidence.sort().values
    last = torch.arange(1, bins) * len(ordered) // bins - 1  # of each bin but the last
    inner = ordered[last[last >= 0]].unique()
    return torch.cat([inner.new_zeros(1), inner[inner < 1], inner.new_ones(1)])
