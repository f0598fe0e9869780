"""One row for each key, whatever was given twice and in whatever order."""

from collections.abc import Mapping

import torch
from jaxtyping import Int
from torch import Tensor

from mmattn.errors import DataError


def distinct_rows(keys: Int[Tensor, "N"], columns: Mapping[str, Tensor]) -> Int[Tensor, "M"]:
    """Return which rows count, sorted by key: one for each of M different keys.

    Args:
        keys: of the rows.
        columns: what the rows hold, [N, ...] each, without NaN. Rows of one key may differ, as they
            may when the batches did in which the model saw them; then the first in lexicographic
            order counts. So neither the order of the rows nor the number of processes matters.

    Raises:
        DataError: rows of one key differ in the column "targets", if there is one.
    """
    _, rank, count = keys.unique(return_inverse=True, return_counts=True)
    rows = torch.empty(len(count), dtype=torch.long, device=keys.device)
    rows[rank] = torch.arange(len(keys), device=keys.device)
    repeated = (count[rank] > 1).nonzero()[:, 0]  # few, and it would take long to sort all
    if len(repeated):
        values = [rank[repeated], *(column[repeated] for column in columns.values())]
        ordered = repeated[_lexicographic_order(values)]
        of_key = rank[ordered]
        first = torch.cat([of_key.new_ones(1, dtype=torch.bool), of_key[1:] != of_key[:-1]])
        rows[of_key[first]] = ordered[first]
        if "targets" in columns:
            _check_targets(keys, columns["targets"], ordered, rows[of_key])
    return rows


def _lexicographic_order(columns: list[Tensor]) -> Int[Tensor, "N"]:
    """Return the order of rows by the first column, then by the next; double holds all of them."""
    table = torch.cat([column.reshape(len(column), -1).double() for column in columns], 1)
    _, place = table.unique(dim=0, return_inverse=True)  # sorts lexicographically
    return place.argsort(stable=True)


def _check_targets(
    keys: Int[Tensor, "N"], targets: Tensor, rows: Int[Tensor, "R"], others: Int[Tensor, "R"]
) -> None:
    """Raise `DataError` unless `rows` have the targets of `others`, which have the same keys."""
    differ = (targets[rows] != targets[others]).reshape(len(rows), -1).any(1)
    if differ.any():
        raise DataError(
            "an example was given with two different labels (the hash of its key is "
            f"{int(keys[rows[differ][0]])}): keys must be unique in the data set"
        )
