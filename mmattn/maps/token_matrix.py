"""Attention within a text: every token to every token."""

from collections.abc import Sequence

import numpy as np

from mmattn.maps.look import LOOK, Look
from mmattn.maps.table import Table, table_page
from mmattn.maps.text import one_line


def token_matrix(
    attention: np.ndarray,
    tokens: Sequence[str],
    *,
    title: str = "",
    allowed: np.ndarray | None = None,
    signed: bool = False,
    vmax: float | None = None,
    look: Look = LOOK,
) -> np.ndarray:
    """Draw what each token of a text (rows) attends to among all of them (columns).

    `attention` is [T, T] for the T `tokens`, query by key. `allowed` is bool [T, T], True where a
    query may attend (`causal_mask`): the other cells stay blank. Colours run from 0 to `vmax`, or
    around 0 where values are `signed`. By default they end where 1 % of the values lie beyond, not
    counting queries that may attend to one token only: early queries of a causal text have few
    tokens to share their attention, and would leave the rest dark. Returns uint8 RGB. Raises
    `ValueError` where the sizes do not fit, and for negative values unless `signed`.
    """
    values, count = np.asarray(attention, dtype=np.float64), len(tokens)
    allowed = np.ones((count, count), bool) if allowed is None else np.asarray(allowed)
    if not count or values.shape != (count, count) or allowed.shape != (count, count):
        raise ValueError(
            f"{count} tokens need attention [{count}, {count}] and a mask of that shape, got "
            f"{values.shape} and {allowed.shape}; there must be at least one token"
        )
    labels = [one_line(token) or "(space)" for token in tokens]
    side = min(40, max(16, 640 // count))
    table = Table(
        values, allowed, ("this token attends", "to this token"), labels, labels, (side, side)
    )
    notes = [] if allowed.all() else ["plain grey: may not attend"]
    if vmax is None:
        vmax = _usual_end(values, allowed)
    return table_page(table, title, notes, signed, vmax, look)


def _usual_end(values: np.ndarray, allowed: np.ndarray) -> float:
    """The magnitude that 1 % of the values exceed, among queries with a choice."""
    chosen = allowed & (allowed.sum(1, keepdims=True) > 1)
    sizes = np.abs(values[(chosen if chosen.any() else allowed) & np.isfinite(values)])
    return float(np.quantile(sizes, 0.99)) if sizes.size else 0.0
