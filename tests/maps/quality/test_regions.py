"""A perfect map has 1, an inverted one 0, a uniform one chance, whatever the region."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmattn.errors import DataError
from mmattn.maps.geometry import to_pixels
from mmattn.maps.quality.regions import (
    dilated,
    energy,
    iou_at_mean,
    pointing,
    roc_auc,
)

MEASURES = [pointing, energy, iou_at_mean, roc_auc]
SEVENTH = np.full((5, 7), 1 / 7)  # whose mean is not exactly 1/7


@st.composite
def regions(draw) -> np.ndarray:
    """Some places of a grid, neither none nor all."""
    height, width = draw(st.integers(1, 7)), draw(st.integers(2, 7))
    size = height * width
    chosen = draw(st.sets(st.integers(0, size - 1), min_size=1, max_size=size - 1))
    region = np.zeros(size, dtype=bool)
    region[list(chosen)] = True
    return region.reshape(height, width)


@given(regions(), st.floats(0.01, 100))
def test_perfect_inverted_and_uniform_maps(region, level):
    uniform = np.full(region.shape, level)
    maps = np.stack([level * region, level * ~region, uniform])
    chance = region.mean()
    for measure in MEASURES:
        expected = [1, 0, 0.5 if measure is roc_auc else chance]
        np.testing.assert_allclose(measure(maps, region), expected, atol=1e-12)
    assert pointing(uniform, region) == chance


def by_pairs(map: np.ndarray, region: np.ndarray) -> float:
    """The ROC AUC by its meaning: all pairs of a place inside and one outside."""
    pairs = [(a > b) + 0.5 * (a == b) for a in map[region] for b in map[~region]]
    return float(np.mean(pairs))


@given(regions(), st.randoms(use_true_random=False))
def test_auc_counts_pairs_and_ties_by_half(region, random):
    maps = np.array([[random.randint(0, 3) for _ in range(region.size)] for _ in range(3)])
    maps = maps.reshape(3, *region.shape).astype(float)
    np.testing.assert_allclose(roc_auc(maps, region), [by_pairs(map, region) for map in maps])


def test_auc_of_everything_is_not_a_number():
    assert np.isnan(roc_auc(np.zeros((2, 3, 3)), np.ones((3, 3), dtype=bool))).all()


def test_many_maps_are_each_by_itself():
    maps = np.random.default_rng(0).random((2, 3, 4, 5))
    region = np.zeros((4, 5), dtype=bool)
    region[1:3, 2] = True
    for measure in MEASURES:
        together = measure(maps, region)
        assert together.shape == (2, 3)
        singly = [[measure(map, region) for map in row] for row in maps]
        np.testing.assert_array_equal(together, np.array(singly, dtype=float))


def test_iou_at_the_mean_by_hand():
    map = np.array([[4.0, 3.0, 0.0, 1.0]])  # the mean is 2
    region = np.array([[True, False, False, True]])
    assert iou_at_mean(map, region) == pytest.approx(1 / 3)
    np.testing.assert_allclose(iou_at_mean(SEVENTH, np.eye(5, 7) > 0), 5 / 35)


def test_a_signed_map_has_the_energy_of_its_positive_part():
    map = np.array([[2.0, -5.0, 1.0, 1.0]])
    region = np.array([[True, True, False, False]])
    assert energy(map, region) == pytest.approx(0.5)
    assert energy(-map.clip(0), region) == pytest.approx(0.5)  # no positive part: chance
    assert pointing(-map, region) == 1


def test_measured_by_the_pixel_too():
    mask = np.zeros((8, 12), dtype=bool)
    mask[4:8, 4:8] = True
    map = np.zeros((2, 3))
    map[1, 1] = 1
    drawn = to_pixels(map, mask.shape)
    assert [float(measure(drawn, mask)) for measure in MEASURES] == [1, 1, 1, 1]


def test_dilated_reaches_diagonally_and_stops_at_the_edge():
    region = np.zeros((4, 4), dtype=bool)
    region[0, 1] = True
    expected = np.zeros((4, 4), dtype=bool)
    expected[:2, :3] = True
    np.testing.assert_array_equal(dilated(region, 1), expected)
    np.testing.assert_array_equal(dilated(region, 0), region)


@pytest.mark.parametrize("measure", MEASURES)
def test_wrong_input_is_refused(measure):
    region = np.eye(4, dtype=bool)
    with pytest.raises(ValueError, match="the region is 4 x 4 and the maps are 4 x 5"):
        measure(np.ones((4, 5)), region)
    with pytest.raises(ValueError, match="bool"):
        measure(np.ones((4, 4)), region.astype(int))
    with pytest.raises(DataError, match="empty"):
        measure(np.ones((4, 4)), ~np.ones((4, 4), dtype=bool))
    with pytest.raises(ValueError, match="4 values are NaN"):
        measure(np.where(region, np.nan, 1.0), region)
