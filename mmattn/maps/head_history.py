"""A statistic of every head over the steps of a training: one small plot per layer."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from mmattn.maps.heads import axes as numbered
from mmattn.maps.look import LOOK, Colour, Look

# Okabe and Ito's colours, which any colour vision tells apart, without their yellow and black: one
# is hard to see on white, the other on black. Further heads repeat them with another dash.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7")
_DASHES = ("-", "--", ":", "-.")
# Plots side by side.
COLUMNS = 4


def head_history(
    steps: Sequence[int],
    values: np.ndarray,
    *,
    title: str,
    bound: tuple[str, float] | None = None,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    look: Look = LOOK,
) -> np.ndarray:
    """Draw a statistic over training: a plot per layer, all on the same axes, with a line per head.

    `values` is [N, L, H], one row for each of the N `steps`. `title` says what was measured, with
    its unit. `bound` is a level that is worth a line, with its name: ("uniform", ln S) for an
    entropy. `layers` and `heads` are their numbers, by default 0, 1, 2 …. Values that are not
    finite leave gaps, and are counted in the title. Returns uint8 RGB [H, W, 3]. Raises
    `ValueError` where the sizes do not fit or there is no step.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 3 or not len(steps) or len(values) != len(steps):
        raise ValueError(
            f"{len(steps)} steps need values [{len(steps)}, layers, heads] and at least one step, "
            f"got {values.shape}"
        )
    layers, heads = numbered(values[0], layers, heads, "values", "")
    rows = -(-len(layers) // COLUMNS)
    across = -(-len(layers) // rows)
    size = 2.5 * across + 1.2, 1.9 * rows + 0.9
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1)
    figure = Figure(figsize=size, dpi=110, layout=layout, facecolor=_rgb(look.paper.sheet))
    plots = figure.subplots(rows, across, sharex=True, sharey=True, squeeze=False).ravel()
    for i, plot in enumerate(plots):
        plot.set_visible(i < len(layers))
        plot.tick_params(labelbottom=i + across >= len(layers))
    for plot, layer, of_layer in zip(plots, layers, values.transpose(1, 2, 0), strict=False):
        _plot(plot, steps, of_layer, heads, look)
        _style(plot, f"layer {layer}", bound, look)
    _annotate(figure, plots[0], _flagged(title, values), look)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])


def _plot(
    plot: Axes, steps: Sequence[int], values: np.ndarray, heads: Sequence[int], look: Look
) -> None:
    """Draw one layer: values [H, N], a line per head."""
    marker = "o" if len(steps) < 30 else None
    for i, (head, line) in enumerate(zip(heads, values, strict=True)):
        colour, dash = _COLOURS[i % len(_COLOURS)], _DASHES[i // len(_COLOURS) % len(_DASHES)]
        line = np.where(np.isfinite(line), line, np.nan)
        plot.plot(
            steps, line, dash, color=colour, marker=marker, markersize=2.5, label=f"head {head}"
        )


def _style(plot: Axes, name: str, bound: tuple[str, float] | None, look: Look) -> None:
    ink, faint = _rgb(look.paper.ink), _rgb(look.paper.faint)
    plot.set_facecolor(_rgb(look.paper.sheet))
    plot.set_title(name, loc="left", fontsize=10, color=ink)
    plot.spines[["top", "right"]].set_visible(False)
    plot.spines[["left", "bottom"]].set_color(faint)
    plot.tick_params(colors=faint, labelsize=8)
    plot.grid(color=faint, alpha=0.25, linewidth=0.6)
    if bound is not None:
        plot.axhline(bound[1], color=faint, linewidth=1, linestyle=(0, (4, 3)), label=bound[0])


def _annotate(figure: Figure, plot: Axes, title: str, look: Look) -> None:
    """Title, the name of the axis that all plots share, and the legend of all plots."""
    ink, faint = _rgb(look.paper.ink), _rgb(look.paper.faint)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold", color=ink)
    figure.supxlabel("step", fontsize=9, color=faint)
    lines, names = plot.get_legend_handles_labels()
    figure.legend(
        lines, names, loc="outside right upper", frameon=False, fontsize=9, labelcolor=ink
    )


def _flagged(title: str, values: np.ndarray) -> str:
    bad = np.count_nonzero(~np.isfinite(values))
    return f"{title} (not finite: {bad} of {values.size} values)" if bad else title


def _rgb(colour: Colour) -> tuple[float, float, float]:
    """A colour as matplotlib wants it, in 0 to 1."""
    red, green, blue = colour
    return red / 255, green / 255, blue / 255
