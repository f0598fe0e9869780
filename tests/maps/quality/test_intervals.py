import numpy as np
import pytest

from mmattn.maps.quality.intervals import bootstrap, figures_over_runs, over_runs, t_quantile

# Student's t at 0.975, from the tables of every textbook.
TABLE = {1: 12.7062, 2: 4.3027, 3: 3.1824, 4: 2.7764, 9: 2.2622, 10: 2.2281, 30: 2.0423}


@pytest.mark.parametrize(("freedom", "expected"), TABLE.items())
def test_quantiles_of_t_are_those_of_the_tables(freedom, expected):
    assert t_quantile(0.975, freedom) == pytest.approx(expected, abs=5e-5)


def test_other_levels_and_many_degrees():
    assert t_quantile(0.5, 3) == pytest.approx(0, abs=1e-9)
    assert t_quantile(0.95, 2) == pytest.approx(2.92, abs=5e-4)
    assert t_quantile(0.975, 100_000) == pytest.approx(1.96, abs=5e-4)
    with pytest.raises(ValueError, match="0 degrees"):
        t_quantile(0.975, 0)


def test_an_interval_over_runs_by_hand():
    found = over_runs(np.array([0.8, 0.9, 1.0]))
    half = 4.302653 * 0.1 / 3**0.5
    np.testing.assert_allclose(found, [0.9, 0.9 - half, 0.9 + half], rtol=1e-6)
    with pytest.raises(ValueError, match="at least 3 of them, got 2"):
        over_runs(np.array([0.8, 0.9]))


def test_figures_over_runs_are_those_that_all_runs_have():
    runs = [{"a": 1.0, "b": 2.0}, {"b": 4.0, "a": 1.0, "c": 0.0}, {"a": 1.0, "b": 6.0}]
    found = figures_over_runs(runs)
    assert list(found) == ["a", "b"]
    assert found["a"] == (1, 1, 1)
    assert found["b"].mean == 4
    np.testing.assert_allclose(found["b"], over_runs(np.array([2.0, 4.0, 6.0])))
    with pytest.raises(ValueError, match="got 0"):
        figures_over_runs([])


def test_a_bootstrap_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    values = rng.normal(5.0, 2.0, size=(60, 400))  # 400 experiments of 60 images
    found = bootstrap(values, np.arange(60), seed=0)
    covered = ((found.low < 5) & (found.high > 5)).mean()
    assert 0.90 < covered < 0.98  # 0.95, less a little for the percentile's bias, ± 3 s.e.
    np.testing.assert_allclose(found.mean, values.mean(0))
    width = found.high - found.low
    assert width.mean() == pytest.approx(2 * 1.96 * 2 / 60**0.5, rel=0.1)


def test_words_of_one_image_are_drawn_together():
    values = np.random.default_rng(1).random(30)
    single = bootstrap(values, np.arange(30), seed=0)
    four = bootstrap(np.repeat(values, 4), np.repeat(np.arange(30), 4), seed=0)
    np.testing.assert_allclose(four, single)
    wrong = bootstrap(np.repeat(values, 4), np.arange(120), seed=0)
    assert wrong.high - wrong.low < 0.7 * (single.high - single.low)


def test_images_weigh_by_their_words():
    found = bootstrap(np.array([1.0, 1.0, 1.0, 0.0]), np.array([7, 7, 7, 9]), seed=0)
    assert found == (0.75, 0, 1)


def test_the_seed_decides_and_columns_share_the_draws():
    values = np.random.default_rng(2).random((20, 3))
    values[:, 2] = values[:, 0] + 1
    found, again = (bootstrap(values, np.arange(20), seed=5) for _ in range(2))
    np.testing.assert_array_equal(found, again)
    assert found.low[2] - found.low[0] == pytest.approx(1)
    other = bootstrap(values, np.arange(20), seed=6)
    assert not np.array_equal(other.low, found.low)


def test_missing_values_are_left_out():
    values = np.array([[1.0, np.nan], [3.0, np.nan], [np.nan, np.nan]])
    found = bootstrap(values, np.arange(3), seed=0)
    assert (found.mean[0], found.low[0], found.high[0]) == (2, 1, 3)
    assert np.isnan([each[1] for each in found]).all()


def test_clusters_must_fit():
    with pytest.raises(ValueError, match="3 values with 2 clusters"):
        bootstrap(np.ones(3), np.arange(2), seed=0)
