"""What the figures share: a sheet without a window, drawn into an array; names written on it."""

from collections import Counter
from collections.abc import Mapping
from functools import cache
from typing import Literal

import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Okabe and Ito's colours, which any colour vision tells apart, without their yellow and black.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7")
BLUE, ORANGE, GREY = *COLOURS[:2], "#7a7f88"


def new_figure(
    width: float, height: float, layout: Literal["constrained", "compressed"] = "constrained"
) -> Figure:
    """Return an empty figure of so many inches; no window and no global state is behind it."""
    return Figure(figsize=(width, height), dpi=110, layout=layout)


def drawn(figure: Figure) -> np.ndarray:
    """Return the picture, uint8 RGB [H, W, 3]."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])


def plain(axes: Axes) -> Axes:
    """Take away the frame's top and right, and give a faint grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    return axes


def labels(names: Mapping[int, str], longest: int = 30) -> list[str]:
    """Return names by number as labels: different, on one line, of `longest` characters or so.

    A long name is cut in its middle, since names are often told apart by their ends. A character
    that the font lacks is a box. Names that would look the same, or like nothing, get their number.
    """
    shown = {number: _cut(_drawable(name), longest) for number, name in names.items()}
    often = Counter(shown.values())
    return [
        label if often[label] == 1 and label.strip("□ ") else f"{label} #{number}".lstrip()
        for number, label in shown.items()
    ]


def counted(count: int, thing: str) -> str:
    """Return "1 example", "2,000 examples"."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def _cut(name: str, longest: int) -> str:
    if len(name) <= longest:
        return name
    tail = (longest - 1) // 2
    return f"{name[: longest - 1 - tail].rstrip()}…{name[-tail:].lstrip()}"


def _drawable(name: str) -> str:
    known = _characters()
    return "".join(c if ord(c) in known else "□" for c in " ".join(name.split()))


@cache
def _characters() -> frozenset[int]:
    """The code points for which matplotlib's font has a glyph."""
    font = font_manager.get_font(font_manager.findfont(font_manager.FontProperties()))
    return frozenset(font.get_charmap())
