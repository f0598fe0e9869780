"""The figures of one head of a classifier: each a picture, and the numbers it is drawn from."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmattn.figures.confusion import confusion_picture
from mmattn.figures.reliability import reliability_picture
from mmattn.figures.risk_coverage import drawn_points, risk_coverage_picture
from mmattn.metrics.calibration import Reliability, reliability
from mmattn.metrics.class_counts import confusion_matrix
from mmattn.metrics.selective import RiskCoverage, risk_coverage

# A confusion matrix of more classes is not made: it has C² cells, and 20 of the classes are drawn.
MOST_CLASSES = 2000
COVERAGE = 0.8  # at which the risk is logged
OTHER = "(another label)"  # what stands for all labels outside the classes


@dataclass(frozen=True)
class Figure:
    """A picture, uint8 RGB [H, W, 3] or None where there is none, with its numbers.

    Attributes:
        name: of its files.
        picture: as it is drawn.
        caption: what it shows, for a dashboard.
        header: the names of the columns.
        rows: the numbers.
    """

    name: str
    picture: np.ndarray | None
    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def csv(self) -> bytes:
        """Return the numbers as a CSV file (RFC 4180), in UTF-8."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.header, *self.rows])
        return text.getvalue().encode()


@dataclass(frozen=True)
class Answers:
    """What a head answered to N examples, on the CPU.

    Attributes:
        confidence: the probability that it gave to its answer.
        correct: whether the answer is right, or its score in [0, 1].
        calibrated: the confidence with a temperature; None without one.
        temperature: what it is.
    """

    confidence: Float[Tensor, "N"]
    correct: Float[Tensor, "N"] | Bool[Tensor, "N"]
    calibrated: Float[Tensor, "N"] | None = None
    temperature: float | None = None


def answers(
    kind: str, rows: Mapping[str, Tensor], temperature: float | None = None
) -> Answers | None:
    """Return how sure a head was, from what its metric keeps of examples (`LabelMetric.examples`).

    None for heads that give an example any number of classes, or a class to every word: their
    answers are many, and sure each in its own way.
    """
    if kind == "single":
        logits, right = rows["logits"], rows["logits"].argmax(-1) == rows["targets"]
        calibrated = None if temperature is None else _confidence(logits / temperature)
        return Answers(_confidence(logits), right, calibrated, temperature)
    if kind == "soft":
        return Answers(rows["confidence"], rows["first_scores"][:, 0])
    return None


def figures(answered: Answers) -> dict[str, float]:
    """Return what is logged of a head's answers.

    `aurc` is the area under the risk-coverage curve, `risk_at_coverage_80` the risk of the surest
    80 % of the answers, and `ece_calibrated` the calibration error with a temperature.
    """
    curve = risk_coverage(answered.confidence, answered.correct)
    found = {
        "aurc": curve.area,
        f"risk_at_coverage_{COVERAGE * 100:.0f}": 1 - curve.accuracy_at(COVERAGE),
    }
    if answered.calibrated is not None:
        found["ece_calibrated"] = reliability(answered.calibrated, answered.correct).error
    return found


def confusion_figure(
    predicted: Int[Tensor, "N"], targets: Int[Tensor, "N"], names: Sequence[str]
) -> Figure:
    """Return who is taken for whom; labels outside the classes are one more class.

    The rows have the pairs that occur. Of more than `MOST_CLASSES` classes there is no picture.
    """
    outside = targets < 0
    if outside.any():
        names = [*names, OTHER]
        targets = torch.where(outside, len(names) - 1, targets)
    picture = None
    if len(names) <= MOST_CLASSES:
        matrix = confusion_matrix(predicted, targets, len(names))
        picture = confusion_picture(matrix.numpy(), list(names))
    pairs, counts = torch.stack([targets, predicted], 1).unique(dim=0, return_counts=True)
    rows = [
        (names[own], names[said], count)
        for (own, said), count in zip(pairs.tolist(), counts.tolist(), strict=True)
    ]
    right = int((predicted == targets).sum())
    caption = f"{right} of {len(targets)} right; rows: the class, columns: what was predicted"
    return Figure("confusion", picture, caption, ("class", "predicted", "examples"), rows)


def reliability_figure(answered: Answers) -> Figure:
    """Return how often answers of each confidence are right, with the temperature beside."""
    before, after = reliability(answered.confidence, answered.correct), None
    rows = list(_bins(before, 1.0))
    caption = f"ECE {before.error:.3f} of {len(answered.correct)} answers"
    if answered.calibrated is not None and answered.temperature is not None:
        after = reliability(answered.calibrated, answered.correct)
        rows += _bins(after, answered.temperature)
        caption += f", {after.error:.3f} with temperature {answered.temperature:.3g}"
    picture = reliability_picture(before, after, answered.temperature)
    header = ("temperature", "lower", "upper", "examples", "confidence", "accuracy")
    return Figure("reliability", picture, caption, header, rows)


def risk_figure(answered: Answers, name: str) -> Figure:
    """Return what it costs to answer more; the rows have the points that are drawn."""
    curve: RiskCoverage = risk_coverage(answered.confidence, answered.correct)
    points = drawn_points(len(curve.risk))
    header = ("coverage", "risk", "threshold", "best_risk")
    columns = [getattr(curve, each).numpy()[points].tolist() for each in header]
    caption = f"AURC {curve.area:.3f}, excess {curve.excess_area:.3f}; answer only when sure"
    picture = risk_coverage_picture({name: curve})
    return Figure("risk_coverage", picture, caption, header, list(zip(*columns, strict=True)))


def _bins(found: Reliability, temperature: float) -> Iterable[tuple[Any, ...]]:
    """Yield the bins that hold an example."""
    edges = found.edges.tolist()
    columns = (found.count.tolist(), found.confidence.tolist(), found.accuracy.tolist())
    for lower, upper, count, *means in zip(edges[:-1], edges[1:], *columns, strict=True):
        if count:
            yield (temperature, lower, upper, count, *means)


def _confidence(logits: Float[Tensor, "N C"]) -> Float[Tensor, "N"]:
    return logits.double().log_softmax(-1).amax(-1).exp()
