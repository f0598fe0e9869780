"""How well true captions are told from foils, by whatever scores a pair of image and text."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmattn.metrics.label_metric import LabelMetric
from mmattn.metrics.precision import in_double
from mmattn.metrics.ranking import ranking

MATCH, SIMILARITY = "match", "similarity"


class FoilMetric(LabelMetric):
    """Of one true caption and one foil a row: who scores how.

    The scores are, for each of the names: <name>_choice, how often the true caption scores higher
    than its foil, where it scores the same counted half; <name>_auroc, the same over all true ones
    against all foils; and of "match", whose score is positive for "yes", match_accuracy, the share
    of right answers among all pairs.

    Args:
        names: what scores the pairs, "match" or "similarity" or both.
    """

    def __init__(self, names: Sequence[str]):
        self.names = tuple(names)
        super().__init__({name: torch.empty(0, 2) for name in names})

    def update(self, keys: Int[Tensor, "M"], scores: dict[str, Float[Tensor, "M 2"]]) -> None:
        """Add M rows: what each name gives the true caption, and what it gives the foil."""
        together = torch.cat([scores[name] for name in self.names], 1)
        finite = together.isfinite().all(1)
        self._add(keys, torch.ones_like(finite), finite, **scores)

    def scores(self, rows: dict[str, Tensor]) -> dict[str, float]:
        """Return the scores of all rows."""
        found = {}
        for name in self.names:
            true, false = in_double(rows[name]).unbind(1)
            found[f"{name}_choice"] = float(((true > false) + 0.5 * (true == false)).mean())
            both = torch.cat([true, false])[:, None]
            belongs = torch.arange(len(both), device=both.device)[:, None] < len(true)
            found[f"{name}_auroc"] = float(ranking(both, belongs).auroc)
            if name == MATCH:
                right = torch.cat([true > 0, false <= 0]).double()
                found["match_accuracy"] = float(right.mean())
        return found
