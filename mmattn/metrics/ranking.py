"""How well scores put the examples of a class before all others: AUROC and average precision."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

CELLS = 1 << 22  # scores that are sorted at once


class Ranking(NamedTuple):
    """Of each of C classes; NaN for one that all examples have, or none.

    auroc: the probability that an example of the class scores higher than another, ties counted
    half (Hanley and McNeil 1982). average_precision: the mean over the examples of the class of the
    precision among those that score as high or higher, which is the area under the step curve of
    precision over recall (as in scikit-learn; VOC's older definition interpolates).
    """

    auroc: Float[Tensor, "C"]
    average_precision: Float[Tensor, "C"]


def ranking(scores: Float[Tensor, "N C"], positive: Bool[Tensor, "N C"]) -> Ranking:
    """Measure each class by its own column; exact, in double precision.

    torchmetrics' functions count a class without examples as 0, warn of it, and put large logits
    through a float32 sigmoid that makes ties of them.
    """
    columns = max(1, CELLS // max(1, len(scores)))
    blocks = zip(scores.split(columns, 1), positive.split(columns, 1), strict=True)
    measured = [_ranking(block.T.double().contiguous(), own.T) for block, own in blocks]
    return Ranking(*(torch.cat(each) for each in zip(*measured, strict=True)))


def _ranking(scores: Float[Tensor, "C N"], positive: Bool[Tensor, "C N"]) -> Ranking:
    ordered, order = scores.sort(-1)
    positive = positive.gather(-1, order)
    below = torch.searchsorted(ordered, ordered)  # examples with a lower score
    up_to = torch.searchsorted(ordered, ordered, right=True)  # and those with the same one
    positives = positive.sum(-1).double()
    negatives = scores.shape[-1] - positives

    ranks = ((below + up_to + 1) / 2 * positive).sum(-1)  # of equal ones the mean rank
    auroc = (ranks - positives * (positives + 1) / 2) / (positives * negatives)

    positives_below = torch.nn.functional.pad(positive.cumsum(-1), (1, 0)).gather(-1, below)
    precision = (positives[:, None] - positives_below) / (scores.shape[-1] - below)
    average = (precision * positive).sum(-1) / positives
    return Ranking(auroc, average.where(negatives > 0, torch.nan))
