"""Which classes a classifier takes for which, as a picture of the confusion matrix."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.axes import Axes

from mmattn.errors import DataError
from mmattn.figures.sheet import counted, drawn, labels, new_figure

MOST = 20  # classes on a side, so that the counts can be read
CELL, CHARACTER = 0.42, 0.075  # inches


def confusion_picture(
    matrix: Int[np.ndarray, "C C"], names: Sequence[str], most: int = MOST
) -> UInt8[np.ndarray, "H W 3"]:
    """Draw a confusion matrix.

    The colour of a cell is its share of its row, the examples of a class; the count is written in
    it, and nothing where there is none. Of more than `most` classes those with the most mistakes
    are drawn, in their own order, and the title says so; the shares stay those of all examples.

    Args:
        matrix: examples of each class (rows) that were predicted to be of each class (columns).
        names: of the classes.
        most: how many classes are drawn.

    Raises:
        DataError: there are more or fewer names than classes, or there is no example.
    """
    if len(names) != len(matrix):
        raise DataError(f"a confusion matrix of {len(matrix)} classes has {len(names)} names")
    if not matrix.sum():
        raise DataError("the confusion matrix is of no example: there is nothing to draw")
    chosen = most_confused(matrix, most)
    named = labels({c: names[c] for c in chosen})
    side, margin = max(CELL * len(chosen), 1.6), CHARACTER * max(map(len, named))
    figure = new_figure(max(side + margin + 2.2, 4.6), side + margin + 1.1, "compressed")
    axes = figure.subplots()
    cells = matrix[np.ix_(chosen, chosen)]
    examples = matrix.sum(1)[chosen]
    shares = cells / np.maximum(examples, 1)[:, None]
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    _write_counts(axes, cells, shares)
    _write_names(axes, named, examples)
    figure.suptitle(title(matrix, chosen), fontsize=10, x=0.02, ha="left")
    figure.colorbar(image, ax=axes, label="share of the class", shrink=0.8)
    return drawn(figure)


def most_confused(matrix: Int[np.ndarray, "C C"], most: int) -> list[int]:
    """Return the classes with the most mistakes, at most `most`, in their own order.

    A mistake counts for the class that was meant and for the one that was predicted.
    """
    wrong = matrix * ~np.eye(len(matrix), dtype=bool)
    mistakes = wrong.sum(0) + wrong.sum(1)
    return sorted(np.argsort(-mistakes, kind="stable")[:most].tolist())


def title(matrix: Int[np.ndarray, "C C"], chosen: Sequence[int]) -> str:
    """Return the accuracy and, where some classes are not drawn, how much of all mistakes is."""
    examples, right = int(matrix.sum()), int(matrix.trace())
    text = f"accuracy {right / examples:.3f} of {counted(examples, 'example')}"
    if len(chosen) == len(matrix):
        return text
    drawn = matrix[np.ix_(chosen, chosen)]
    text += f"\nthe {len(chosen)} most confused of {len(matrix)} classes"
    return text + f", with {int(drawn.sum() - drawn.trace()):,} of {examples - right:,} mistakes"


def short(count: int) -> str:
    """Return a count in at most five characters."""
    if count < 100_000:
        return str(count)
    return f"{count / 1e3:.0f}k" if count < 999_500 else f"{count / 1e6:.3g}M"


def _write_counts(
    axes: Axes, cells: Int[np.ndarray, "K K"], shares: Float[np.ndarray, "K K"]
) -> None:
    for row, column in zip(*cells.nonzero(), strict=True):
        colour = "white" if shares[row, column] > 0.55 else "black"
        count = short(int(cells[row, column]))
        axes.text(column, row, count, ha="center", va="center", fontsize=7, color=colour)


def _write_names(axes: Axes, named: Sequence[str], examples: Int[np.ndarray, "K"]) -> None:
    """Write the names on both axes, before the rows with their numbers of examples."""
    places = range(len(named))
    rows = [f"{name}  · {int(n):,}" for name, n in zip(named, examples, strict=True)]
    axes.set_xticks(places, named, rotation=90, fontsize=8)
    axes.set_yticks(places, rows, fontsize=8)
    for text in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        text.set_parse_math(False)  # a dollar sign is no formula
    axes.set_xlabel("predicted")
    axes.set_ylabel("class · examples")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
