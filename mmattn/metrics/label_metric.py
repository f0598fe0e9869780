"""What the scores of all heads share: examples of all processes, each counted once."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torchmetrics
from jaxtyping import Bool, Int
from torch import Tensor
from torchmetrics.utilities.data import dim_zero_cat
from torchmetrics.utilities.distributed import gather_all_tensors

from mmattn.batch import IGNORE
from mmattn.errors import DataError
from mmattn.metrics.distinct import distinct_rows
from mmattn.metrics.precision import with_double

COUNTED = {"keys": torch.long, "labelled": torch.bool, "finite": torch.bool}


class LabelMetric(torchmetrics.Metric):
    """Scores of one head over all labelled examples that any process has seen.

    Each example counts once, by the hash of its key, however often it was given: a distributed
    sampler repeats some to fill the last batch. Where its predictions differ, as they may when its
    batches did, one is taken by a rule that depends on them alone. So neither the number of
    processes nor the order changes the result.

    Rows of all examples are kept until `reset`, on the device of the logits; see the subclasses for
    how much that is, and `compute_on_cpu` of torchmetrics for a way out.

    Args:
        columns: name -> an empty tensor [0, ...] with the type and the size of a row, for what a
            subclass keeps of an example.
    """

    is_differentiable = False
    full_state_update = False

    def __init__(self, columns: Mapping[str, Tensor], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        counted = {name: torch.empty(0, dtype=dtype) for name, dtype in COUNTED.items()}
        self._empty = counted | dict(columns)
        for name in self._empty:
            self.add_state(name, default=[], dist_reduce_fx="cat")

    @abstractmethod
    def scores(self, rows: dict[str, Tensor]) -> dict[str, float]:
        """Return flat names and numbers for labelled examples, at least one, sorted by key."""

    def compute(self) -> dict[str, float]:
        """Return the scores of all labelled examples; NaN stands where nothing was counted.

        Raises:
            DataError: no process has seen an example with a label, logits are not finite, or an
                example was given with two different labels.
        """
        return self.scores(self._counting(self._gathered()))

    def examples(self) -> dict[str, Tensor]:
        """Return the rows that `compute` counts, by column, for pictures and calibration.

        Every process must call it, and gets the same. Raises what `compute` raises.
        """
        with self.sync_context():
            gathered = self._gathered()
        return self._counting(gathered)

    def identity(self, rows: dict[str, Tensor]) -> Int[Tensor, "N"]:
        """Return the number by which a row is known: the same for what is the same."""
        return rows["keys"]

    def _add(self, keys: Tensor, labelled: Tensor, finite: Tensor, **columns: Tensor) -> None:
        rows = {"keys": keys.to(labelled.device), "labelled": labelled, "finite": finite, **columns}
        sizes = {name: len(column) for name, column in rows.items()}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"every column needs a row for each example, got {sizes}")
        for name, column in rows.items():
            getattr(self, name).append(column.detach().to(self._empty[name].dtype))

    def _gathered(self) -> dict[str, Tensor]:
        if not len(getattr(self, "keys")):  # noqa: B009
            return self._empty
        return {name: with_double(dim_zero_cat(getattr(self, name))) for name in self._empty}

    def _counting(self, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        given = len(rows["keys"])
        rows = _chosen(rows, rows["labelled"])
        labelled = len(rows["keys"])
        if not labelled:
            raise DataError(
                f"nothing to score: of {given} predictions none has a label for this head"
            )
        if broken := int((~rows["finite"]).sum()):
            raise DataError(
                f"{broken} of {labelled} predictions have logits that are not finite (NaN or "
                "infinite): the model has diverged; lower the learning rate, or compute in float32"
            )
        kept = {name: column for name, column in rows.items() if name not in COUNTED}
        return _chosen({"keys": rows["keys"], **kept}, distinct_rows(self.identity(rows), kept))

    def _sync_dist(
        self, dist_sync_fn: Callable = gather_all_tensors, process_group: Any | None = None
    ) -> None:
        # A process without an example would send an empty vector of floats, whatever the column.
        for name, empty in self._empty.items():
            if not len(getattr(self, name)):
                setattr(self, name, [empty.to(self.device)])
        super()._sync_dist(dist_sync_fn, process_group)


def check_classes(logits: Tensor, classes: int) -> None:
    """Raise `ValueError` unless the last axis of the logits has an entry for each class."""
    if logits.shape[-1] != classes:
        raise ValueError(f"{classes} classes need as many logits, got {tuple(logits.shape)}")


def check_targets(targets: Tensor, classes: int) -> None:
    """Raise `ValueError` unless each target is a class, -1 for one outside them, or `IGNORE`."""
    fitting = (targets == IGNORE) | ((targets >= -1) & (targets < classes))
    if not fitting.all():
        raise ValueError(
            f"a target is {int(targets[~fitting][0])}: give 0 to {classes - 1}, -1 for a label "
            f"outside the {classes} classes, or {IGNORE} for none"
        )


def labelled_rows(targets: Tensor) -> Bool[Tensor, "B"]:
    """Which rows of targets [B, C] are labels; a row of `IGNORE` alone is none."""
    return (targets != IGNORE).any(-1)


def _chosen(rows: dict[str, Tensor], chosen: Tensor) -> dict[str, Tensor]:
    return {name: column[chosen] for name, column in rows.items()}
