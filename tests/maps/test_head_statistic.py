"""A number for every layer and head: in its cell, in its colour, under the right labels."""

import numpy as np
import pytest

from mmattn.maps.head_statistic import head_statistic
from mmattn.maps.look import Look

RNG = np.random.default_rng(0)


def changed(before: np.ndarray, after: np.ndarray) -> tuple[int, int]:
    """The height and width of what differs between two pictures."""
    rows, columns = np.nonzero((before != after).any(2))
    return int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1


def test_one_number_is_one_cell():
    values = RNG.random((3, 4))
    values[0, 0] = 1.0
    before = head_statistic(values, title="entropy", vmax=1.0)
    values[1, 2] = 0.5 if values[1, 2] < 0.3 else 0.1
    height, width = changed(before, head_statistic(values, title="entropy", vmax=1.0))
    assert height <= 34
    assert width <= 62


def test_labels_are_the_numbers_that_were_recorded():
    values = RNG.random((2, 2))
    plain = head_statistic(values, title="entropy")
    same = head_statistic(values, title="entropy", layers=[0, 1], heads=[0, 1])
    np.testing.assert_array_equal(plain, same)
    other = head_statistic(values, title="entropy", layers=[0, 1], heads=[0, 7])
    assert max(changed(plain, other)) <= 20  # one digit


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_values_that_are_not_finite_and_signs_are_drawn(theme):
    values = RNG.normal(size=(12, 12)) * 0.02
    values[3, 4] = np.nan
    page = head_statistic(values, title="change", signed=True, look=Look(theme=theme))
    assert page.dtype == np.uint8
    assert page.shape[1] > 12 * 62
    with pytest.raises(ValueError, match="signed=True"):
        head_statistic(values, title="change")


@pytest.mark.parametrize("shape", [(2,), (2, 3, 4), (0, 2)])
def test_what_is_no_number_per_layer_and_head_is_refused(shape):
    with pytest.raises(ValueError, match="values"):
        head_statistic(np.zeros(shape), title="entropy")
    with pytest.raises(ValueError, match="3 layers and 2 heads"):
        head_statistic(np.zeros((2, 2)), title="entropy", layers=[0, 1, 2])
