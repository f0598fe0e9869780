from itertools import pairwise

import matplotlib
import numpy as np
import pytest

from mmattn.errors import DataError
from mmattn.figures import confusion
from mmattn.figures.confusion import confusion_picture, most_confused, short, title

LONG = "latin small letter number {} with circumflex and acute and a dollar $ign_$"


def near_diagonal(classes, examples=3000, seed=0):
    """A matrix whose mistakes are neighbours of the true class."""
    rng = np.random.RandomState(seed)
    targets = rng.randint(0, classes, examples)
    predicted = np.clip(targets + rng.randint(-1, 2, examples), 0, classes - 1)
    matrix = np.zeros((classes, classes), int)
    np.add.at(matrix, (targets, predicted), 1)
    return matrix


def parts(figure):
    """The axes of the matrix, and the boxes in pixels of the texts around and in it."""
    axes = figure.axes[0]
    boxes = [
        [text.get_window_extent() for text in texts]
        for texts in (axes.get_xticklabels(), axes.get_yticklabels(), axes.texts)
    ]
    return axes, *boxes


@pytest.mark.parametrize("examples", [300, 90_000_000])
@pytest.mark.parametrize("classes", [1, 2, 13, 20, 200])
def test_every_word_can_be_read(classes, examples, figures):
    kept = figures(confusion)
    matrix = near_diagonal(classes) * max(1, examples // 3000)
    picture = confusion_picture(matrix, [LONG.format(i) for i in range(classes)])
    (figure,) = kept
    axes, columns, rows, counts = parts(figure)
    names = [axes.xaxis.label, axes.yaxis.label, figure._suptitle]
    for box in (*columns, *rows, *counts, *(text.get_window_extent() for text in names)):
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= picture.shape[1]
        assert box.y1 <= picture.shape[0]
    assert all(left.x1 <= right.x0 for left, right in pairwise(columns))
    assert all(lower.y1 <= upper.y0 for upper, lower in pairwise(rows))
    cell = axes.get_window_extent().width / min(classes, 20)
    assert all(box.width < cell for box in counts)
    assert len({text.get_text() for text in axes.get_xticklabels()}) == min(classes, 20)


def test_colours_are_shares_of_rows_and_counts_are_written(figures):
    kept = figures(confusion)
    matrix = np.array([[8, 2, 0], [0, 0, 0], [1, 0, 3]])
    picture = confusion_picture(matrix, ["a", "b", "c"])
    axes = kept[0].axes[0]
    assert {(t.get_position(), t.get_text()) for t in axes.texts} == {
        ((0, 0), "8"),
        ((1, 0), "2"),
        ((0, 2), "1"),
        ((2, 2), "3"),
    }
    for row, shares in enumerate([[0.8, 0.2, 0], [0, 0, 0], [0.25, 0, 0.75]]):
        for column, share in enumerate(shares):
            x, y = axes.transData.transform((column - 0.4, row - 0.4)).round().astype(int)
            expected = np.array(matplotlib.colormaps["Blues"](share)[:3]) * 255
            assert np.abs(picture[picture.shape[0] - y, x] - expected).max() <= 2
    rows = [text.get_text() for text in axes.get_yticklabels()]
    assert rows == ["a  · 10", "b  · 0", "c  · 4"]


def test_of_many_classes_the_most_confused_are_drawn():
    matrix = np.diag([50] * 6)
    matrix[4, 1], matrix[2, 0], matrix[0, 2] = 9, 5, 3
    assert most_confused(matrix, 2) == [1, 4]
    assert most_confused(matrix, 4) == [0, 1, 2, 4]
    assert most_confused(matrix, 9) == [0, 1, 2, 3, 4, 5]
    assert most_confused(np.diag([5] * 6), 3) == [0, 1, 2]


def test_the_title_says_what_is_not_drawn():
    matrix = np.diag([500] * 6)
    matrix[4, 1], matrix[2, 0] = 9, 5
    assert title(matrix, range(6)) == "accuracy 0.995 of 3,014 examples"
    assert title(matrix, [1, 4]) == (
        "accuracy 0.995 of 3,014 examples\nthe 2 most confused of 6 classes, with 9 of 14 mistakes"
    )


def test_shares_stay_those_of_all_examples(figures):
    """Class 0 is confused with a class that is not drawn."""
    kept = figures(confusion)
    matrix = np.array([[5, 5, 0], [0, 10, 0], [0, 0, 10]])
    confusion_picture(matrix, ["a", "b", "c"], most=1)
    assert kept[0].axes[0].images[0].get_array().tolist() == [[0.5]]


@pytest.mark.parametrize(
    ("count", "written"),
    [
        (0, "0"),
        (99_999, "99999"),
        (100_000, "100k"),
        (999_499, "999k"),
        (999_500, "1M"),
        (12_345_678, "12.3M"),
    ],
)
def test_counts_are_short(count, written):
    assert short(count) == written


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(DataError, match="3 classes has 2 names"):
        confusion_picture(np.eye(3, dtype=int), ["a", "b"])
    with pytest.raises(DataError, match="of no example"):
        confusion_picture(np.zeros((2, 2), int), ["a", "b"])
