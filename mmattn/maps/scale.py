"""What colours mean, and what a map says in numbers.

A scale starts at 0, or lies evenly around 0 where values have signs: which of the two is asked for,
never guessed from the values. So a colour says how much, and not only where.
"""

from collections.abc import Sequence
from math import floor, log10
from typing import Literal, NamedTuple

import numpy as np

ScaleRule = Literal["each", "shared"] | float
# A scale spans at least this many times the map's mean: what is flat looks flat.
FLAT = 4.0
# Values this close to each other, relative to the largest, are one value: float32 rounding.
SAME = 1e-6


class Scale(NamedTuple):
    """Colours run from 0 to `vmax`, or from -`vmax` to `vmax` where values have signs."""

    vmax: float
    signed: bool = False

    @property
    def vmin(self) -> float:
        """The lower end."""
        return -self.vmax if self.signed else 0.0

    def levels(self, values: np.ndarray) -> np.ndarray:
        """Return the levels of heat of some values, as floats to cut to integers within 0 to 255.

        Signed values have level 127 at 0, and 0 and 254 at the ends. The hair of slack keeps what
        is flat at the border of two levels from flickering between them.
        """
        top = self.vmax or 1.0
        if self.signed:
            return values * (127 / top) + 127.5 + 1e-9
        return values * (256 / top) + 1e-9


class Reading(NamedTuple):
    """A map in numbers: its least and largest value, its sum, and how many values are no numbers.

    The numbers of a map that is not finite are those of its finite values.
    """

    low: float
    peak: float
    mass: float
    size: int
    bad: int

    @property
    def constant(self) -> bool:
        """Whether all values are the same."""
        return self.peak - self.low <= SAME * max(abs(self.peak), abs(self.low))

    def parts(self, signed: bool) -> tuple[str, ...]:
        """The numbers in words, in parts of a line."""
        if self.bad:
            return "not finite:", f"{self.bad} of {self.size}"
        total = f"{'sum' if signed else 'mass'} {number(self.mass)}"
        if self.constant:
            return f"constant {number(self.peak)},", total
        if signed:
            return f"{number(self.low)} to", f"{number(self.peak)},", total
        return f"peak {number(self.peak)},", total

    def short(self, signed: bool) -> tuple[str, ...]:
        """The same in less room."""
        if self.bad:
            return f"{self.bad} of {self.size}", "values"
        if self.constant:
            return "constant", number(self.peak)
        if signed:
            return f"{number(self.low)} to", number(self.peak)
        return f"{number(self.peak)},", number(self.mass)


def read(map: np.ndarray) -> Reading:
    """Return a map [h, w] in numbers."""
    values = map[np.isfinite(map)]
    bad = map.size - values.size
    if not values.size:
        return Reading(0.0, 0.0, 0.0, map.size, bad)
    return Reading(float(values.min()), float(values.max()), float(values.sum()), map.size, bad)


def scales(maps: np.ndarray, rule: ScaleRule, signed: bool) -> list[Scale]:
    """Return the scale of each of the maps [N, h, w]: its own, or the one that all share.

    `each` ends at the map's largest magnitude, but at least at four times its mean magnitude.
    `shared` is the largest of these, and a number is the upper end of all. Maps that are not finite
    have no part in it. Raises `ValueError` for another rule, and for negative values unless
    `signed`.
    """
    low = maps[np.isfinite(maps)].min(initial=0.0)
    if low < 0 and not signed:
        raise ValueError(
            f"values go down to {low:.3g}, but the scale starts at 0: pass signed=True for a scale "
            f"around 0"
        )
    own = [_own_end(map) for map in maps]
    if rule == "each":
        return [Scale(end, signed) for end in own]
    if rule == "shared":
        return [Scale(max(own, default=0.0), signed)] * len(own)
    if isinstance(rule, str):
        raise ValueError(f"scale is 'each', 'shared' or a number, not {rule!r}")
    if not 0 <= rule < float("inf"):
        raise ValueError(f"the upper end of a scale is finite and at least 0, got {rule}")
    return [Scale(float(rule), signed)] * len(own)


def explained(rule: ScaleRule, used: Sequence[Scale], faded: bool) -> list[str]:
    """What the colours of maps with the scales `used` mean, in sentences for the small print."""
    notes = []
    if used and rule != "each":
        notes = [f"colours: every map from {number(used[0].vmin)} to {number(used[0].vmax)}"]
    elif used:
        ends = "from −v to v, v its own" if used[0].signed else "from 0 to its own"
        size = "magnitude" if used[0].signed else "value"
        notes = [f"colours: each map {ends} largest {size}, or {FLAT:g} times its mean if more"]
    return [*notes, "faded: what the network did not see"] if faded else notes


def number(value: float) -> str:
    """Two significant digits, or the whole number from 10 on; zero as a bare 0."""
    size = abs(value)
    if size == 0:
        return "0"
    if 9.95 <= size < 99999.5:
        return _minus(f"{value:.0f}")
    if 0.000995 <= size < 9.95:
        return _minus(f"{value:#.2g}")
    mantissa, exponent = f"{value:.1e}".split("e")
    return _minus(f"{mantissa}e{int(exponent)}")


def aligned(value: float, top: float) -> str:
    """As many decimals as show three digits of `top`: numbers to compare below each other."""
    if not 0.001 <= top < 99999.5:
        return number(value)
    text = f"{value:.{max(0, 2 - floor(log10(top)))}f}"
    return _minus(text if float(text) else text.removeprefix("-"))


def _minus(text: str) -> str:
    return text.replace("-", "−")


def _own_end(map: np.ndarray) -> float:
    """The upper end of a map's own scale; 0 where it is not finite."""
    if not np.isfinite(map).all():
        return 0.0
    sizes = np.abs(map)
    return float(max(sizes.max(), FLAT * sizes.mean()))
