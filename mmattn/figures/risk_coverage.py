"""What it costs to answer more of the questions, as a picture."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.axes import Axes

from mmattn.errors import DataError
from mmattn.figures.sheet import COLOURS, GREY, drawn, labels, new_figure, plain
from mmattn.metrics.selective import RiskCoverage

DASHES = ("-", "--", ":", "-.")  # for the curves whose colours come again
POINTS = 2000  # of a curve: more cannot be seen


def risk_coverage_picture(curves: Mapping[str, RiskCoverage]) -> UInt8[np.ndarray, "H W 3"]:
    """Draw risk-coverage curves: the risk of the surest answers against how many they are.

    The legend gives the area under each curve (AURC) and its excess over that of the best order of
    the same answers, in which the wrong ones come last. Under a single curve that order is drawn.

    Args:
        curves: by name, such as that of a model or of a measure of uncertainty.

    Raises:
        DataError: there is no curve.
    """
    if not curves:
        raise DataError("there is no risk-coverage curve to draw")
    figure = new_figure(6.4, 4.4 + 0.22 * len(curves))
    axes = plain(figure.subplots())
    named = labels(dict(enumerate(curves)), 40)
    for i, (name, curve) in enumerate(zip(named, curves.values(), strict=True)):
        label = f"{name}: AURC {curve.area:.3f}, excess {curve.excess_area:.3f}"
        colour, dash = COLOURS[i % len(COLOURS)], DASHES[i // len(COLOURS) % len(DASHES)]
        _plot(axes, curve.risk.numpy(), label, colour, dash)
    if len(curves) == 1:
        (curve,) = curves.values()
        _plot(axes, curve.best_risk.numpy(), "best order", GREY, ":")
    axes.set(xlim=(0, 1), xlabel="coverage: share of examples answered", ylabel="risk: share wrong")
    axes.set_ylim(bottom=0)
    legend = figure.legend(loc="outside lower left", frameon=False, fontsize=8)
    for text in legend.get_texts():
        text.set_parse_math(False)  # a dollar sign is no formula
    return drawn(figure)


def drawn_points(examples: int) -> Int[np.ndarray, "_"]:
    """Return which points of a curve over so many examples are drawn: evenly spaced, both ends."""
    return np.unique(np.linspace(0, examples - 1, min(examples, POINTS)).astype(int))


def _plot(axes: Axes, risk: Float[np.ndarray, "N"], label: str, colour: str, dash: str) -> None:
    chosen = drawn_points(len(risk))
    marker = "." if len(chosen) < 30 else None
    coverage = (chosen + 1) / len(risk)
    axes.plot(coverage, risk[chosen], dash, color=colour, label=label, marker=marker, clip_on=False)
