import pytest
import torch

from mmattn.errors import DataError
from mmattn.metrics.keyed_means import KeyedMeans


def test_means_are_over_all_that_was_counted_however_it_is_cut():
    generator = torch.Generator().manual_seed(0)
    totals, keys = torch.rand(7, 2, generator=generator), torch.arange(7)
    counts = torch.tensor([[1, 0], [3, 1], [2, 1], [5, 0], [1, 1], [0, 1], [4, 2]]).float()
    expected = (totals.double().sum(0) / counts.double().sum(0)).tolist()
    for cuts in ([7], [3, 4], [1] * 7):
        means = KeyedMeans(["a", "b"])
        for some in keys.split(cuts):
            means.update(some, totals[some], counts[some])
        assert list(means.compute().values()) == pytest.approx(expected, abs=1e-12)


def test_what_is_given_again_does_not_count_again():
    means = KeyedMeans(["a"])
    means.update(torch.tensor([4, 9]), torch.tensor([[2.0], [6.0]]), torch.tensor([[1.0], [3.0]]))
    means.update(torch.tensor([9]), torch.tensor([[6.0]]), torch.tensor([[3.0]]))
    assert means.compute() == {"a": 2.0}


def test_what_was_not_counted_has_no_mean_and_what_diverged_has():
    means = KeyedMeans(["none", "broken"])
    row = torch.tensor([[0.0, torch.nan]])
    means.update(torch.tensor([1]), row, torch.tensor([[0.0, 1.0]]))
    found = means.compute()
    assert found.keys() == {"broken"}
    assert found["broken"] != found["broken"]


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_nothing_has_no_means():
    with pytest.raises(DataError, match="nothing to score"):
        KeyedMeans(["a"]).compute()
