"""Two sides of one thing: the same words above each other, all maps on one scale."""

import numpy as np
import pytest

from mmattn.maps.comparison import Side, comparison
from mmattn.maps.look import Look
from mmattn.maps.overlay import overlay
from mmattn.maps.page import MARGIN

BLOCKS = Look(mode="nearest")
RNG = np.random.default_rng(0)
GLYPH = RNG.integers(0, 256, (32, 32, 3), dtype=np.uint8)
OTHER = RNG.integers(0, 256, (32, 32, 3), dtype=np.uint8)


def big(image: np.ndarray) -> np.ndarray:
    return image.repeat(4, 0).repeat(4, 1)  # 128 pixels


def cell(page: np.ndarray, row: int, column: int) -> np.ndarray:
    """A picture of a page without a header; column 0 has the sides' own images."""
    top = MARGIN + 28 + 10 + row * (128 + 19 + 10)
    left = MARGIN + column * (128 + 10)
    return page[top : top + 128, left : left + 128]


def test_both_sides_are_drawn_on_one_scale():
    weak, strong = RNG.random((2, 8, 8)) * 0.2, RNG.random((2, 4, 4))
    sides = [Side("before", GLYPH, weak), Side("after", OTHER, strong)]
    page = comparison(sides, ["cat", "dog"], look=BLOCKS)
    assert page.dtype == np.uint8
    end = max(max(4 * m.mean(), m.max()) for m in strong)
    for row, (side, image) in enumerate(zip(sides, (GLYPH, OTHER), strict=True)):
        np.testing.assert_array_equal(cell(page, row, 0), big(image))
        for column, map in enumerate(side.maps, start=1):
            expected = overlay(big(image), map, vmax=float(end), look=BLOCKS).picture
            np.testing.assert_array_equal(cell(page, row, column), expected)


def test_the_scale_can_be_given():
    maps = RNG.random((1, 8, 8))
    page = comparison([Side("a", GLYPH, maps)] * 2, ["cat"], vmax=3.0, look=BLOCKS)
    expected = overlay(big(GLYPH), maps[0], vmax=3.0, look=BLOCKS).picture
    np.testing.assert_array_equal(cell(page, 1, 1), expected)


def test_the_difference_is_signed_and_second_minus_first():
    first, second = RNG.random((2, 2, 8, 8))
    sides = [Side("a", GLYPH, first), Side("b", OTHER, second)]
    page = comparison(sides, ["cat", "dog"], difference=True, look=BLOCKS)
    change = second - first
    end = max(max(4 * np.abs(m).mean(), np.abs(m).max()) for m in change)
    for column in (1, 2):
        map = change[column - 1]
        expected = overlay(big(OTHER), map, signed=True, vmax=float(end), look=BLOCKS).picture
        np.testing.assert_array_equal(cell(page, 2, column), expected)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_many_words_stand_in_blocks(theme):
    words = [f"word{i}" for i in range(19)]
    sides = [Side("a", GLYPH, RNG.random((19, 3, 5))), Side("b", OTHER, RNG.random((19, 8, 8)))]
    page = comparison(sides, words, title="a and b", look=Look(theme=theme))
    assert page.shape[1] <= 1280
    assert page.shape[0] > 3 * 2 * 128
    one = comparison(sides[:2], words, look=Look(theme=theme), width=4000)
    assert one.shape[1] > 19 * 128


def test_a_map_that_is_not_finite_does_not_spoil_the_others():
    maps = RNG.random((2, 8, 8))
    sides = [Side("a", GLYPH, maps), Side("b", GLYPH, maps.copy())]
    before = comparison(sides, ["cat", "dog"], vmax=1.0)
    sides[1].maps[0, 0, 0] = np.nan
    page = comparison(sides, ["cat", "dog"], vmax=1.0)
    np.testing.assert_array_equal(cell(page, 0, 1), cell(before, 0, 1))
    np.testing.assert_array_equal(cell(page, 1, 2), cell(before, 1, 2))
    assert not np.array_equal(cell(page, 1, 1), cell(before, 1, 1))


def test_what_does_not_fit_is_refused():
    one, two = Side("a", GLYPH, np.ones((2, 8, 8))), Side("b", GLYPH, np.ones((2, 4, 4)))
    with pytest.raises(ValueError, match="at least two sides"):
        comparison([one], ["cat", "dog"])
    with pytest.raises(ValueError, match="1 words need"):
        comparison([one, two], ["cat"])
    with pytest.raises(ValueError, match="same grid"):
        comparison([one, two], ["cat", "dog"], difference=True)
    with pytest.raises(ValueError, match="signed=True"):
        comparison([one, one._replace(maps=-one.maps)], ["cat", "dog"])
