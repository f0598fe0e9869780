"""One number for every layer and head, such as the entropy of their attention."""

from collections.abc import Sequence

import numpy as np

from mmattn.maps.heads import axes
from mmattn.maps.look import LOOK, Look
from mmattn.maps.table import Table, table_page


def head_statistic(
    values: np.ndarray,
    *,
    title: str,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    signed: bool = False,
    vmax: float | None = None,
    look: Look = LOOK,
) -> np.ndarray:
    """Draw one number for every layer (rows) and head (columns), printed in its cell.

    `values` is [L, H]; `layers` and `heads` are their numbers, by default 0, 1, 2 …. `title` says
    what was measured, with its unit. Colours run from 0 to `vmax`, by default the largest value, or
    around 0 where values are `signed`; give a bound of the statistic (ln S of an entropy) or one
    `vmax` to pictures that shall be compared. Returns uint8 RGB. Raises `ValueError` where the
    sizes do not fit, and for negative values unless `signed`.
    """
    values = np.asarray(values, dtype=np.float64)
    layers, heads = axes(values, layers, heads, "values", "")
    rows, columns = [str(layer) for layer in layers], [str(head) for head in heads]
    allowed = np.ones(values.shape, bool)
    table = Table(values, allowed, ("layer", "head"), rows, columns, (34, 62), printed=True)
    return table_page(table, title, [], signed, vmax, look)
