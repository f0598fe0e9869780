"""The pointing game and energy: a perfect map has 1, an inverted one 0, a uniform one chance."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmattn.errors import DataError
from mmattn.maps.geometry import Placement
from mmattn.maps.quality.grounding import Grounding, averages, ground, hit_patches, totals


@st.composite
def masks_and_grids(draw) -> tuple[np.ndarray, tuple[int, int]]:
    """A rectangle anywhere in a picture whose size the grid need not divide."""
    height, width = draw(st.integers(2, 40)), draw(st.integers(2, 40))
    top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    mask = np.zeros((height, width), dtype=bool)
    mask[top : draw(st.integers(top + 1, height)), left : draw(st.integers(left + 1, width))] = True
    return mask, (draw(st.integers(1, 9)), draw(st.integers(1, 9)))


def region(size: tuple[int, int], rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros(size, dtype=bool)
    mask[rows, columns] = True
    return mask


@given(masks_and_grids(), st.integers(0, 2), st.floats(1e-6, 1e6))
def test_a_uniform_map_scores_exactly_chance(case, tolerance, level):
    mask, grid = case
    result = ground(np.full(grid, level), mask, tolerance=tolerance)
    assert result.hit == result.pointing_chance
    assert result.energy == pytest.approx(result.chance, abs=1e-12)
    assert result.pointing_chance >= result.chance > 0
    if tolerance == 0:
        assert result.pointing_chance == result.chance


@given(masks_and_grids())
def test_a_perfect_map_has_one_and_its_inverse_zero(case):
    mask, grid = case
    hits = hit_patches(mask, grid)
    perfect = ground(hits.astype(float), mask)
    assert (perfect.hit, perfect.energy) == (1.0, 1.0)
    if not hits.all():
        inverted = ground(1.0 - hits, mask)
        assert (inverted.hit, inverted.energy) == (0.0, 0.0)


@given(masks_and_grids())
def test_one_lit_patch_at_every_place_is_chance_on_average(case):
    mask, grid = case
    lit = np.eye(grid[0] * grid[1]).reshape(-1, *grid)
    results = [ground(map, mask) for map in lit]
    assert np.mean([r.hit for r in results]) == pytest.approx(results[0].chance)
    assert np.mean([r.energy for r in results]) == pytest.approx(results[0].chance)


def test_a_patch_with_exactly_a_quarter_is_a_hit_patch():
    mask = region((32, 48), slice(6, 10), slice(14, 18))  # the corner of four 8 x 8 patches
    expected = np.zeros((4, 6), dtype=bool)
    expected[0:2, 1:3] = True
    np.testing.assert_array_equal(hit_patches(mask, (4, 6)), expected)
    assert hit_patches(mask, (4, 6), share=0.26).sum() == 4  # none holds that: the largest do


def test_a_patch_with_less_than_a_quarter_is_none():
    mask = region((32, 48), slice(0, 8), slice(0, 10))  # 64 pixels in one patch, 16 in the next
    hits = hit_patches(mask, (4, 6))
    assert hits[0, 0]
    assert hits.sum() == 1


@given(masks_and_grids(), st.integers(0, 1))
def test_a_placement_that_shows_everything_changes_no_bit(case, tolerance):
    mask, grid = case
    map = np.random.default_rng(0).random(grid)
    placement = Placement.resize((mask.shape[0], mask.shape[1]))
    assert ground(map, mask, placement=placement, tolerance=tolerance) == ground(
        map, mask, tolerance=tolerance
    )


def test_of_a_cropped_picture_the_part_that_is_seen_counts():
    """Of 8 x 12 pixels the network sees the middle 8 x 8, as 4 x 4 patches of 2 x 2 pixels."""
    placement = Placement.center_crop((8, 12), 8, 8)
    mask = region((8, 12), slice(0, 2), slice(0, 4))  # the left half of it is cut off
    map = np.zeros((4, 4))
    map[0, 0], map[0, 1] = 3, 1
    assert ground(map, mask, placement=placement) == Grounding(1.0, 0.75, 1 / 16, 1 / 16)
    # Taken for a mask of the network's picture, it would lie elsewhere.
    assert ground(map, mask) != ground(map, mask, placement=placement)
    outside = region((8, 12), slice(0, 8), slice(0, 2))
    with pytest.raises(DataError, match="outside"):
        hit_patches(outside, (4, 4), placement=placement)


def test_in_a_large_region_the_fullest_patches_are_hits():
    mask = region((32, 48), slice(4, 32), slice(0, 48))  # the top row of patches is half full
    expected = np.ones((4, 6), dtype=bool)
    expected[0] = False
    np.testing.assert_array_equal(hit_patches(mask, (4, 6)), expected)


def test_energy_is_the_share_of_mass_and_ignores_the_scale():
    mask = region((4, 6), slice(0, 1), slice(0, 2))
    map = np.arange(24, dtype=np.float32).reshape(4, 6) + 1
    before = map.copy()
    result = ground(map, mask)
    assert result == Grounding(hit=0.0, energy=3 / 300, chance=2 / 24, pointing_chance=2 / 24)
    assert ground(map * 0.125, mask) == result
    np.testing.assert_array_equal(map, before)


def test_ties_count_by_the_share_that_hits():
    mask = region((4, 4), slice(0, 1), slice(0, 1))
    map = np.zeros((4, 4))
    map[0, 0] = map[0, 3] = map[3, 3] = 0.3
    assert ground(map, mask).hit == pytest.approx(1 / 3)


def test_tolerance_forgives_neighbours_but_not_energy():
    mask = region((5, 5), slice(2, 3), slice(2, 3))
    map = np.zeros((5, 5))
    map[1, 1] = 1
    assert ground(map, mask) == Grounding(0.0, 0.0, 1 / 25, 1 / 25)
    assert ground(map, mask, tolerance=1) == Grounding(1.0, 0.0, 1 / 25, 9 / 25)
    assert ground(np.roll(map, -1), mask, tolerance=1).hit == 0  # two columns away


def test_a_map_without_mass_counts_as_uniform():
    mask = region((4, 4), slice(0, 2), slice(0, 1))
    assert ground(np.zeros((4, 4)), mask) == ground(np.ones((4, 4)), mask)


@pytest.mark.parametrize("value", [-0.1, np.nan, np.inf])
def test_a_map_that_is_no_attention_is_refused(value):
    map = np.ones((4, 4))
    map[1, 1] = value
    with pytest.raises(ValueError, match=r"negative|NaN"):
        ground(map, np.ones((8, 8), dtype=bool))


def test_an_empty_region_and_senseless_settings_are_refused():
    full = np.ones((8, 8), dtype=bool)
    with pytest.raises(DataError, match="empty"):
        ground(np.ones((4, 4)), ~full)
    with pytest.raises(ValueError, match="share"):
        ground(np.ones((4, 4)), full, share=0.0)
    with pytest.raises(ValueError, match="tolerance"):
        ground(np.ones((4, 4)), full, tolerance=-1)


def test_averages_are_of_totals_that_can_be_added_up():
    results = [Grounding(1.0, 0.5, 0.1, 0.2), Grounding(0.5, 0.1, 0.3, 0.4)]
    whole = totals(results)
    assert averages(whole) == pytest.approx(
        {"pointing": 0.75, "pointing_chance": 0.3, "energy": 0.3, "energy_ratio": 1.5, "words": 2}
    )
    np.testing.assert_allclose(totals(results[:1]) + totals(results[1:]) + totals([]), whole)


def test_nothing_to_average_is_said():
    with pytest.raises(ValueError, match="no grounding"):
        averages(totals([]))
