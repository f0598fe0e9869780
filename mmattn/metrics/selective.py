"""Answering only when sure: the risk of the answers against the share of questions answered."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mmattn.metrics.calibration import check_confidence


@dataclass(frozen=True)
class RiskCoverage:
    """What it costs to answer the surest 1, 2 ... N of N examples; on the CPU.

    Attributes:
        coverage: 1/N, 2/N ... 1.
        risk: the share of wrong answers among these. Of equal confidences none comes first, so it
            is the mean over their orders.
        threshold: the confidence of the least sure of these.
        best_risk: the risk if every wrong answer were among the least sure.
    """

    coverage: Float[Tensor, "N"]
    risk: Float[Tensor, "N"]
    threshold: Float[Tensor, "N"]
    best_risk: Float[Tensor, "N"]

    @property
    def area(self) -> float:
        """The area under the curve, the mean risk over coverages (AURC); less is better."""
        return self.risk.mean().item()

    @property
    def excess_area(self) -> float:
        """The area above that of the best risk (E-AURC of Geifman, Uziel and El-Yaniv 2019)."""
        return (self.risk - self.best_risk).mean().item()

    def accuracy_at(self, coverage: float) -> float:
        """Return the accuracy of the surest examples, at least a share of `coverage` of them.

        Raises `ValueError` for a share that is not above 0 and at most 1.
        """
        if not 0 < coverage <= 1:
            raise ValueError(f"coverage is a share above 0 and at most 1, got {coverage}")
        place = int(torch.searchsorted(self.coverage, coverage - 1e-12))
        return 1 - self.risk[place].item()

    def coverage_at(self, risk: float) -> float:
        """Return the largest share that can be answered at no more than this risk, 0 where none.

        Only what a threshold on the confidence can do: examples of equal confidence are answered
        together.
        """
        ends = torch.cat([self.threshold[1:] < self.threshold[:-1], torch.tensor([True])])
        allowed = self.coverage[ends & (self.risk <= risk + 1e-12)]
        return allowed.max().item() if len(allowed) else 0.0


def risk_coverage(
    confidence: Float[Tensor, "N"], correct: Float[Tensor, "N"] | Bool[Tensor, "N"]
) -> RiskCoverage:
    """Return the risk-coverage curve (Geifman and El-Yaniv 2017, "Selective classification").

    Args:
        confidence: a probability each; only the order matters, up to equality.
        correct: whether the answer is right, or its score in [0, 1].

    Raises:
        DataError: there is no example, or a confidence is no probability.
    """
    check_confidence(confidence)
    confidence, wrong = confidence.cpu().double(), 1 - correct.cpu().double()
    threshold, order = confidence.sort(descending=True)
    risk = _running_mean(_mean_over_ties(threshold, wrong[order]))
    coverage = torch.arange(1, len(risk) + 1).double() / len(risk)
    return RiskCoverage(coverage, risk, threshold, _running_mean(wrong.sort().values))


def _mean_over_ties(ordered: Float[Tensor, "N"], values: Float[Tensor, "N"]) -> Float[Tensor, "N"]:
    """Give each value the mean of those whose place in the order it could have."""
    _, group, count = ordered.unique_consecutive(return_inverse=True, return_counts=True)
    return (group.bincount(values) / count)[group]


def _running_mean(values: Float[Tensor, "N"]) -> Float[Tensor, "N"]:
    return values.cumsum(0) / torch.arange(1, len(values) + 1)
