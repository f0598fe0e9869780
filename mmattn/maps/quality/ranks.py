"""Ranks with ties, and the correlation of ranks."""

import numpy as np


def midranks(values: np.ndarray) -> np.ndarray:
    """Return the ranks along the last axis, from 1; equal values share the mean of their ranks."""
    order = np.argsort(values, axis=-1)
    ordered = np.take_along_axis(values, order, -1)
    changes = ordered[..., 1:] != ordered[..., :-1]
    ends = np.ones((*values.shape[:-1], 1), dtype=bool)
    places = np.arange(values.shape[-1])
    first = np.where(np.concatenate([ends, changes], -1), places, 0)
    first = np.maximum.accumulate(first, -1)
    last = np.where(np.concatenate([changes, ends], -1), places, places[-1])
    last = np.minimum.accumulate(last[..., ::-1], -1)[..., ::-1]
    ranks = np.empty(values.shape)
    np.put_along_axis(ranks, order, (first + last) / 2 + 1, -1)
    return ranks


def spearman(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return Spearman's rank correlation of the last axes of a and b, which broadcast.

    Where one of them is constant there is nothing to correlate: 0, as of two unrelated ones.
    """
    a, b = (ranks - ranks.mean(-1, keepdims=True) for ranks in (midranks(a), midranks(b)))
    size = np.sqrt((a * a).sum(-1) * (b * b).sum(-1))
    return np.where(size > 0, (a * b).sum(-1) / np.where(size > 0, size, 1), 0.0)
