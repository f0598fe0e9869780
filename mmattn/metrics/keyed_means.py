"""Means over a whole set, of what has a different weight in every example."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmattn.metrics.label_metric import LabelMetric
from mmattn.metrics.precision import in_double


class KeyedMeans(LabelMetric):
    """Sums over all examples divided by their counts: a loss by tokens, for one.

    The mean of the means of batches would depend on how the set was cut into batches, and on the
    examples that are repeated for ranks without one. This does not: see `LabelMetric`.

    Args:
        names: of the means.
    """

    def __init__(self, names: Sequence[str]):
        self.names = tuple(names)
        row = torch.empty(0, len(self.names))
        super().__init__({"totals": row, "counts": row})

    def update(
        self, keys: Int[Tensor, "B"], totals: Float[Tensor, "B M"], counts: Float[Tensor, "B M"]
    ) -> None:
        """Add B examples: of each mean, a sum and how many were added up in it."""
        every = torch.ones(len(totals), dtype=torch.bool, device=totals.device)
        # A loss that is not finite is a figure like any other, and shown.
        self._add(keys, every, every, totals=totals, counts=counts)

    def scores(self, rows: dict[str, Tensor]) -> dict[str, float]:
        """Return the means by name; of what was not counted at all there is none."""
        counts = in_double(rows["counts"]).sum(0)
        means = (in_double(rows["totals"]).sum(0) / counts).tolist()
        return {name: means[i] for i, name in enumerate(self.names) if counts[i]}
