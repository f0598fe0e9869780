"""Whether a classifier is as often right as it is sure, as a picture."""

import numpy as np
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from mmattn.figures.sheet import BLUE, GREY, ORANGE, counted, drawn, new_figure, plain
from mmattn.metrics.calibration import Reliability

FEW = 10  # examples in a bin, below which its accuracy is mostly chance


def reliability_picture(
    before: Reliability, after: Reliability | None = None, temperature: float | None = None
) -> UInt8[np.ndarray, "H W 3"]:
    """Draw a reliability diagram (Guo et al. 2017), and the histogram of the confidences below.

    Bars are the accuracy in each bin of confidence; on the diagonal a model is calibrated. The gap
    between a bar and the mean confidence of its bin is hatched: what the model is too sure of, or
    not sure enough. A bin without an example has no bar, and that of a bin with few is pale.

    Args:
        before: the bins of the model as it was trained.
        after: those of the same model with a temperature, to be drawn beside.
        temperature: what it is, for the title.
    """
    sides = {"": before}
    if after is not None:
        named = "with temperature" if temperature is None else f"with temperature {temperature:.3g}"
        sides = {"as trained: ": before, f"{named}: ": after}
    figure = new_figure(4.4 * len(sides), 5.6)
    plots = figure.subplots(
        2, len(sides), sharex=True, sharey="row", squeeze=False, height_ratios=(3, 1)
    )
    for (name, bins), upper, lower in zip(sides.items(), *plots, strict=True):
        _diagram(plain(upper), bins)
        _histogram(plain(lower), bins)
        upper.set_title(f"{name}ECE {bins.error:.3f}", loc="left", fontsize=10)
    plots[0, 0].set_ylabel("accuracy")
    plots[1, 0].set_ylabel("share")
    handles = [
        Patch(color=BLUE, label="accuracy"),
        Patch(facecolor="none", edgecolor=ORANGE, hatch="///", label="gap to the confidence"),
        Line2D([], [], linestyle="--", color=GREY, label="calibrated"),
    ]
    figure.legend(handles=handles, loc="outside lower left", frameon=False, fontsize=8, ncols=3)
    return drawn(figure)


def _diagram(axes: Axes, bins: Reliability) -> None:
    held = bins.count.numpy() > 0
    alpha = np.where(bins.count.numpy()[held] < FEW, 0.25, 1.0)
    accuracy, confidence = bins.accuracy.numpy()[held], bins.confidence.numpy()[held]
    edges = bins.edges.numpy()
    left, width = edges[:-1][held], np.diff(edges)[held]
    axes.bar(left, accuracy, width, align="edge", color=_each(BLUE, alpha), edgecolor="white")
    axes.bar(
        left,
        confidence - accuracy,
        width,
        bottom=accuracy,
        align="edge",
        facecolor="none",
        edgecolor=_each(ORANGE, alpha),
        hatch="///",
        linewidth=0.8,
    )
    axes.plot((0, 1), (0, 1), "--", color=GREY, linewidth=1)
    axes.set(xlim=(0, 1), ylim=(0, 1))


def _histogram(axes: Axes, bins: Reliability) -> None:
    edges, count = bins.edges.numpy(), bins.count.numpy()
    shares = count / count.sum()
    axes.bar(edges[:-1], shares, np.diff(edges), align="edge", color=GREY, edgecolor="white")
    pale = f"; pale: fewer than {FEW}" if ((count > 0) & (count < FEW)).any() else ""
    axes.set_xlabel(f"confidence ({counted(int(count.sum()), 'example')}{pale})")


def _each(colour: str, alpha: np.ndarray) -> list[tuple[float, ...]]:
    return [to_rgba(colour, each) for each in alpha]
