import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmattn.maps.quality.ranks import midranks, spearman


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=20))
def test_a_rank_is_one_more_than_the_smaller_and_half_of_the_other_equals(values):
    plain = [1 + sum(b < a for b in values) + (sum(b == a for b in values) - 1) / 2 for a in values]
    np.testing.assert_array_equal(midranks(np.array(values)), plain)


def test_ranks_run_along_the_last_axis():
    values = np.array([[[3, 1, 2], [1, 1, 0]]])
    np.testing.assert_array_equal(midranks(values), [[[3, 1, 2], [2.5, 2.5, 1]]])


def test_spearman_by_hand():
    a = np.array([1.0, 2.0, 3.0, 4.0])
    # 1 - 6 * sum(d^2) / (n (n^2 - 1)), with d = 1, 1, 1, 1
    assert spearman(a, np.array([20, 10, 40, 30])) == pytest.approx(1 - 6 * 4 / 60)
    np.testing.assert_allclose(spearman(np.stack([a**3, -a]), a), [1, -1])


def test_with_ties_spearman_is_the_correlation_of_the_ranks():
    a, b = np.array([1.0, 1.0, 2.0, 5.0]), np.array([0.0, 3.0, 3.0, 3.0])
    ranks = [1.5, 1.5, 3, 4], [1, 3, 3, 3]
    assert spearman(a, b) == pytest.approx(np.corrcoef(*ranks)[0, 1])


def test_nothing_correlates_with_a_constant():
    assert spearman(np.ones(4), np.arange(4)) == 0
