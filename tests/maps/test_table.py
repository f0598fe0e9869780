"""Coloured tables: every value at its place, blank and striped cells, printed numbers."""

import matplotlib
import numpy as np
import pytest

from mmattn.maps.look import LOOK, Look
from mmattn.maps.scale import Scale, read
from mmattn.maps.table import Table, _cells, _flags, _ink_on, table_page

RNG = np.random.default_rng(0)
ROWS, COLUMNS = ["a", "b"], ["x", "y", "z"]


def table(values: np.ndarray, allowed: np.ndarray | None = None, printed: bool = False) -> Table:
    allowed = np.ones(values.shape, bool) if allowed is None else allowed
    return Table(values, allowed, ("row", "column"), ROWS, COLUMNS, (20, 30), printed)


def inside(picture: np.ndarray, row: int, column: int) -> np.ndarray:
    """A cell without the gap after it."""
    return picture[row * 20 : row * 20 + 19, column * 30 : column * 30 + 29]


@pytest.mark.parametrize("signed", [False, True])
def test_every_value_is_at_its_place_in_its_colour(signed):
    values = np.array([[0.0, 0.25, 0.5], [1.0, 0.75, 0.1]]) * (-1 if signed else 1)
    picture = np.asarray(_cells(table(values), Scale(1.0, signed), LOOK))
    assert picture.shape == (40, 90, 3)
    for (row, column), value in np.ndenumerate(values):
        where = (value + 1) / 2 if signed else value
        colour = matplotlib.colormaps["coolwarm" if signed else "inferno"](where)[:3]
        cell = inside(picture, row, column)
        np.testing.assert_allclose(
            cell, np.broadcast_to(np.array(colour) * 255, cell.shape), atol=3
        )
    assert (picture[19::20] == LOOK.paper.sheet).all()
    assert (picture[:, 29::30] == LOOK.paper.sheet).all()


def test_cells_without_a_value_are_blank_and_those_without_a_number_striped():
    values, allowed = RNG.random((2, 3)), np.ones((2, 3), bool)
    values[0, 1], values[1, 2], allowed[1, 2] = np.nan, np.nan, False
    picture = np.asarray(_cells(table(values, allowed), Scale(1.0), LOOK))
    assert (inside(picture, 1, 2) == LOOK.paper.blank).all()
    colours = set(map(tuple, inside(picture, 0, 1).reshape(-1, 3).tolist()))
    assert colours == {LOOK.paper.blank, LOOK.paper.sheet}


def test_numbers_are_printed_in_black_or_white():
    values = np.array([[0.0, 0.5, 1.0], [0.1, 0.9, 0.3]])
    plain = np.asarray(_cells(table(values), Scale(1.0), LOOK))
    printed = np.asarray(_cells(table(values, printed=True), Scale(1.0), LOOK))
    for row, column in np.ndindex(2, 3):
        before, after = inside(plain, row, column), inside(printed, row, column)
        changed = after[(before != after).any(2)].astype(int)
        assert len(changed) > 20
        furthest = np.abs(changed - before[0, 0]).max(1).argmax()
        assert changed[furthest].max() < 30 or changed[furthest].min() > 225


@pytest.mark.parametrize("colormap", ["inferno", "coolwarm", "viridis", "PuOr"])
def test_printed_numbers_have_contrast(colormap):
    for colour in matplotlib.colormaps[colormap](np.arange(256), bytes=True)[:, :3]:
        c = np.stack([colour, _ink_on(colour)]) / 255
        linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
        low, high = sorted((linear @ np.array([0.2126, 0.7152, 0.0722])).tolist())
        assert (high + 0.05) / (low + 0.05) >= 4.4


def test_the_small_print_flags_what_is_constant_or_not_finite():
    assert _flags(read(np.array([[0.1, 0.5]]))) == ["values: 0.10 to 0.50"]
    assert _flags(read(np.array([[0.25, 0.25]]))) == ["constant: 0.25"]
    striped = "not finite: {} of 2 values (striped cells)"
    assert _flags(read(np.array([[0.1, np.inf]]))) == ["constant: 0.10", striped.format(1)]
    assert _flags(read(np.array([[np.nan, np.nan]]))) == [striped.format(2)]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("labels", [["a", "b", "c"], ["one long label", "b", "x" * 60]])
def test_labels_stay_on_the_page(theme, labels):
    look, values = Look(theme=theme), RNG.random((3, 3))
    one = Table(values, np.ones((3, 3), bool), ("row", "column"), labels, labels, (20, 30))
    page = table_page(one, "title", [], False, None, look)
    assert page.dtype == np.uint8
    blank = (page == look.paper.sheet).all(2)
    for edge in (blank[:24], blank[-24:], blank[:, :24], blank[:, -24:]):
        assert edge.all()


def test_a_table_ends_at_its_largest_value_or_where_asked():
    values = np.array([[0.0, 0.1, 0.2], [0.2, 0.1, 0.0]])
    own = table_page(table(values), "", [], False, None, LOOK)
    same = table_page(table(values), "", [], False, 0.2, LOOK)
    np.testing.assert_array_equal(own, same)
    wider = table_page(table(values), "", [], False, 0.4, LOOK)
    assert not np.array_equal(own, wider)


def test_negative_values_need_a_signed_table():
    values = np.array([[0.0, -0.1, 0.2], [0.2, 0.1, 0.0]])
    with pytest.raises(ValueError, match="signed=True"):
        table_page(table(values), "", [], False, None, LOOK)
    assert table_page(table(values), "", [], True, None, LOOK).dtype == np.uint8
