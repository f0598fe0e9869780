"""True captions against foils: plain counting, on one process and two."""

import pytest
import torch

from mmattn.errors import DataError
from mmattn.metrics.foil_metric import FoilMetric


def rows(seed=0, count=30):
    rng = torch.Generator().manual_seed(seed)
    match = torch.randint(-2, 3, (count, 2), generator=rng).float()
    return {"match": match, "similarity": torch.randn(count, 2, generator=rng)}


def plain(true, false):
    """The share of pairs in which the true one is above, ties counted half: own, and all."""
    own = [(t > f) + 0.5 * (t == f) for t, f in zip(true, false, strict=True)]
    every = [(t > f) + 0.5 * (t == f) for t in true for f in false]
    return sum(own) / len(own), sum(every) / len(every)


def test_the_figures_are_those_of_counting():
    metric, scores = FoilMetric(["match", "similarity"]), rows()
    metric.update(torch.arange(30), scores)
    found = metric.compute()
    for name, both in scores.items():
        choice, auroc = plain(*both.T.tolist())
        assert found[f"{name}_choice"] == pytest.approx(choice)
        assert found[f"{name}_auroc"] == pytest.approx(auroc)
    true, false = scores["match"].T.tolist()
    right = [t > 0 for t in true] + [f <= 0 for f in false]
    assert found["match_accuracy"] == pytest.approx(sum(right) / 60)
    assert len(found) == 5


def test_without_a_matcher_there_is_no_accuracy():
    metric = FoilMetric(["similarity"])
    metric.update(torch.arange(30), {"similarity": rows()["similarity"]})
    assert set(metric.compute()) == {"similarity_choice", "similarity_auroc"}


def test_scores_that_are_not_finite_are_refused():
    metric, scores = FoilMetric(["similarity"]), rows()["similarity"]
    scores[3, 1] = torch.nan
    metric.update(torch.arange(30), {"similarity": scores})
    with pytest.raises(DataError, match="1 of 30 predictions"):
        metric.compute()


def of_a_share(rank, shares):
    metric, chosen = FoilMetric(["match", "similarity"]), shares[rank]
    scores = {name: both[chosen] for name, both in rows().items()}
    metric.update(torch.tensor(chosen), scores)
    return metric.compute()


def test_two_processes_that_repeat_rows_find_the_same(in_two_processes):
    shares = [list(range(18)), [0, 3, *range(15, 30)]]
    found = in_two_processes(of_a_share, [shares, shares])
    assert found[0] == found[1] == of_a_share(0, [list(range(30))])
