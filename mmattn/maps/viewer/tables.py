"""Maps as bytes for a web page: rows of one-byte levels, each row on its own scale."""

import base64
import zlib
from typing import NamedTuple

import numpy as np

from mmattn.maps.scale import SAME

# Levels 0 to 254 are values; this one marks what is NaN or infinite.
NOT_A_NUMBER = 255
UNSIGNED_TOP, SIGNED_ZERO = 254, 127
# Flags of a row: all its values are one; so are they less the mean over the rows of its plane.
CONSTANT, CONSTANT_LESS_MEAN = 1, 2


class Table(NamedTuple):
    """Where a table [rows, columns] lies among all rows and all cells of its bytes."""

    row: int
    cell: int
    rows: int
    columns: int
    signed: bool


class Tables:
    """Collects tables of numbers and packs them.

    The bytes are float32 [R, 4] (scale, peak, mass and entropy of each row), one byte a cell, and
    one byte of flags a row, as zlib in base64. A row of weights is level / 254 * scale; a signed
    one is (level - 127) / 127 * scale. So a cell is wrong by scale / 508 at most, a signed one by
    scale / 254, while scale, peak, mass and entropy have the precision of float32. Whether a row is
    constant is a flag, as small differences are lost in levels.
    """

    def __init__(self):
        self.rows = self._cells = 0
        self._statistics: list[np.ndarray] = []
        self._levels: list[np.ndarray] = []
        self._flags: list[np.ndarray] = []

    def add(self, values: np.ndarray, signed: bool = False, words: int = 0) -> Table:
        """Add a table [rows, columns]; it is signed if asked for, or if a value is negative.

        Where rows are words, of one plane after the other, `words` is how many a plane has.
        """
        values = np.asarray(values, np.float64)
        signed = signed or bool((values < 0).any())
        table = Table(self.rows, self._cells, len(values), values.shape[1], signed)
        scales, levels = quantised(values, signed)
        self._statistics.append(np.column_stack([scales, *statistics(values)]))
        self._levels.append(levels)
        self._flags.append(flags(values, words))
        self.rows, self._cells = self.rows + len(values), self._cells + values.size
        return table

    def packed(self) -> str:
        """Return the bytes as text."""
        statistics = np.concatenate([np.empty((0, 4)), *self._statistics]).astype("<f4")
        cells = b"".join(part.tobytes() for part in [*self._levels, *self._flags])
        return base64.b64encode(zlib.compress(statistics.tobytes() + cells, 9)).decode()


def quantised(values: np.ndarray, signed: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the scales [rows] and levels uint8 [rows, columns] of a table."""
    finite = np.isfinite(values)
    known = np.where(finite, values, 0.0)
    scales = np.abs(known).max(axis=1, initial=0.0)
    shares = known / np.where(scales > 0, scales, 1.0)[:, None]
    levels = shares * SIGNED_ZERO + SIGNED_ZERO if signed else shares * UNSIGNED_TOP
    return scales, np.where(finite, np.rint(levels), NOT_A_NUMBER).astype(np.uint8)


def statistics(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return peak, mass and entropy of each row [rows], of its finite values alone.

    The peak is the value farthest from 0, and the mass the sum. The entropy, in bits, is that of
    the row as a distribution that sums to 1; NaN where a value is negative or all are 0.
    """
    known = np.where(np.isfinite(values), values, 0.0)
    rows, farthest = np.arange(len(known)), np.abs(known).argmax(axis=1)
    mass = known.sum(axis=1)
    proper = (known >= 0).all(axis=1) & (mass > 0)
    shares = np.where(proper[:, None], known, 0.0) / np.where(proper, mass, 1.0)[:, None]
    logs = np.log2(shares, where=shares > 0, out=np.zeros_like(shares))
    entropy = np.where(proper, -(shares * logs).sum(axis=1) + 0.0, np.nan)
    return known[rows, farthest], mass, entropy


def flags(values: np.ndarray, words: int = 0) -> np.ndarray:
    """Return the flags uint8 [rows] of a table, from its finite values.

    Values are one where they differ by rounding alone. Less the mean over `words`, that is rounding
    of what they were before.
    """
    known = np.where(np.isfinite(values), values, np.nan)
    sizes = np.abs(values).max(axis=1, initial=0.0, where=np.isfinite(values))
    found = np.where(_one_value(known, sizes), CONSTANT, 0)
    if words and values.size:
        planes = known.reshape(-1, words, values.shape[1])
        less = (planes - planes.mean(axis=1, keepdims=True)).reshape(values.shape)
        largest = np.repeat(sizes.reshape(-1, words).max(axis=1), words)
        found |= np.where(_one_value(less, largest), CONSTANT_LESS_MEAN, 0)
    return found.astype(np.uint8)


def _one_value(values: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Whether the numbers of each row [rows] differ by no more than rounding of `sizes`."""
    numbers = ~np.isnan(values)
    low = values.min(axis=1, initial=np.inf, where=numbers)
    high = values.max(axis=1, initial=-np.inf, where=numbers)
    return numbers.any(axis=1) & (high - low <= SAME * sizes)
