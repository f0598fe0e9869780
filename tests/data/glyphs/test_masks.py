import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mmattn.data.glyphs.masks import dilate, drop_specks, locate, shift

masks = arrays(bool, (9, 7))
steps = st.integers(-12, 12)


@given(masks, steps, steps)
def test_shift_moves_each_pixel(mask, down, right):
    moved = {(r + down, c + right) for r, c in np.argwhere(mask)}
    inside = {(r, c) for r, c in moved if 0 <= r < 9 and 0 <= c < 7}
    assert {tuple(place) for place in np.argwhere(shift(mask, down, right))} == inside


@given(masks, st.integers(0, 3))
def test_dilate_is_the_square_neighbourhood(mask, radius):
    padded = np.pad(mask, radius)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * radius + 1,) * 2)
    assert (dilate(mask, radius) == windows.any(axis=(2, 3))).all()


def test_drop_specks_keeps_thick_shapes_whole():
    mask = np.zeros((20, 20), bool)
    mask[3:10, 3:12] = True
    thick = mask.copy()
    mask[15, 1:18] = True  # a line one pixel thick
    assert (drop_specks(mask, 1) == thick).all()


@settings(max_examples=30)
@given(arrays(bool, (8, 8)).filter(np.any), arrays(bool, (8, 8)), st.integers(-3, 3))
def test_locate_finds_the_nearest_of_the_best_overlaps(part, whole, guess):
    def merit(place):
        overlap = (shift(part, *place) & whole).sum()
        return overlap, -np.hypot(place[0], place[1] - guess)

    places = [(down, right) for down in range(-2, 3) for right in range(-8, 8)]
    best = max(merit(place) for place in places)
    found = merit(locate(part, whole, guess, 2))
    assert found[0] == best[0]
    assert np.isclose(found[1], best[1])
