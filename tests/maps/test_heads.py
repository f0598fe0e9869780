"""The grid of layers and heads: every map at its place, with the numbers of its axes."""

import numpy as np
import pytest

from mmattn.maps.heads import layer_head_grid
from mmattn.maps.look import Look
from mmattn.maps.overlay import overlay
from mmattn.maps.page import MARGIN

BLOCKS = Look(mode="nearest")
RNG = np.random.default_rng(0)
GLYPH = RNG.integers(0, 256, (32, 32, 3), dtype=np.uint8)
BIG = GLYPH.repeat(3, 0).repeat(3, 1)  # as it is drawn: 96 pixels


def cell(page: np.ndarray, layer: int, head: int, width: int = 96) -> np.ndarray:
    """The map of a layer and head, in cells of some width."""
    top = MARGIN + 96 + 28 + 10 + layer * (96 + 17 + 10)
    left = MARGIN + (head + 1) * (width + 10) + (width - 96) // 2
    return page[top : top + 96, left : left + 96]


def test_the_grid_has_a_row_for_each_layer_and_a_column_for_each_head():
    attention = np.zeros((2, 3, 5 + 8 * 8))
    attention[1, 2, 5 + 3 * 8 + 6] = 0.7
    page = layer_head_grid(GLYPH, attention, (8, 8), prefix=5, look=BLOCKS)
    np.testing.assert_array_equal(page[MARGIN : MARGIN + 96, MARGIN : MARGIN + 96], BIG)
    for layer in range(2):
        for head in range(3):
            map = attention[layer, head, 5:].reshape(8, 8)
            expected = overlay(BIG, map, look=BLOCKS).picture
            np.testing.assert_array_equal(cell(page, layer, head), expected)


def test_the_axes_name_the_layers_and_heads_that_were_recorded():
    attention = np.ones((2, 2, 64)) / 64
    plain = layer_head_grid(GLYPH, attention, (8, 8))
    same = layer_head_grid(GLYPH, attention, (8, 8), layers=[0, 1], heads=[0, 1])
    np.testing.assert_array_equal(plain, same)
    other = layer_head_grid(GLYPH, attention, (8, 8), layers=[0, 7], heads=[0, 9])
    rows, columns = np.nonzero((plain != other).any(axis=2))
    first_row = MARGIN + 96 + 28 + 10
    # The label of head 1 stands over the second column, that of layer 1 left of the second row.
    over, beside = rows < first_row, rows > first_row + 96 + 17
    assert over.any()
    assert beside.any()
    assert (over | beside).all()
    assert columns[over].min() >= MARGIN + 2 * (96 + 10)
    assert columns[beside].max() < MARGIN + 96


def test_a_signed_grid_is_on_scales_around_0():
    attention = RNG.normal(size=(2, 2, 64))
    page = layer_head_grid(GLYPH, attention, (8, 8), signed=True, look=BLOCKS)
    expected = overlay(BIG, attention[1, 0].reshape(8, 8), signed=True, look=BLOCKS).picture
    np.testing.assert_array_equal(cell(page, 1, 0, width=106), expected)
    with pytest.raises(ValueError, match="signed=True"):
        layer_head_grid(GLYPH, attention, (8, 8))


@pytest.mark.parametrize("scale", ["each", "shared"])
def test_a_head_that_is_not_finite_does_not_spoil_the_others(scale):
    attention = RNG.random((2, 2, 64))
    before = layer_head_grid(GLYPH, attention, (8, 8), scale=scale)
    attention[0, 1, 3] = np.nan
    page = layer_head_grid(GLYPH, attention, (8, 8), scale=scale)
    assert not np.array_equal(cell(page, 0, 1), cell(before, 0, 1))
    if scale == "each":
        for place in [(0, 0), (1, 0), (1, 1)]:
            np.testing.assert_array_equal(cell(page, *place), cell(before, *place))


def test_a_constant_head_says_so():
    attention = RNG.random((1, 3, 64))
    attention[0, 1] = attention[0, 2] = 1 / 64
    attention[0, 2, 0] *= 1.01  # not constant
    page = layer_head_grid(GLYPH, attention, (8, 8))
    top = MARGIN + 96 + 28 + 10 + 96
    below = [page[top : top + 17, MARGIN + (i + 1) * 106 :][:, :96] for i in range(3)]
    inked = [np.count_nonzero((line != line[0, 0]).any(2).any(0)) for line in below]
    assert inked[1] > max(inked[0], inked[2])  # "constant 0.016" is longer than two numbers


@pytest.mark.parametrize("shape", [(2, 64), (2, 4, 65), (3, 4, 64), (2, 0, 64)])
def test_a_grid_that_does_not_fit_is_refused(shape):
    with pytest.raises(ValueError, match="attention"):
        layer_head_grid(GLYPH, np.ones(shape), (8, 8), layers=[0, 1])


def test_dark_paper():
    page = layer_head_grid(GLYPH, np.ones((1, 1, 64)), (8, 8), look=Look(theme="dark"))
    assert page.dtype == np.uint8
    assert page[0, 0].max() < 40
