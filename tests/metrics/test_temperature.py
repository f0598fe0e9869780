import math

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from mmattn.batch import IGNORE
from mmattn.errors import DataError
from mmattn.metrics import temperature as module
from mmattn.metrics.temperature import COLDEST, HOTTEST, fit_temperature


def drawn(temperature, seed=0, examples=400, classes=5):
    """Logits, and labels drawn from the softmax of logits / temperature."""
    rng = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(examples, classes, generator=rng)
    targets = (logits / temperature).softmax(-1).multinomial(1, generator=rng)[:, 0]
    return logits, targets


def loss(logits, targets, temperature):
    scaled = logits.double() / temperature
    if targets.ndim == 1:
        return cross_entropy(scaled, targets)
    return binary_cross_entropy_with_logits(scaled, targets.double())


def on_a_grid(logits, targets):
    """The temperature of the least loss among many, by trying."""
    grid = torch.logspace(math.log10(COLDEST), math.log10(HOTTEST), 2001, dtype=torch.double)
    return grid[torch.stack([loss(logits, targets, each) for each in grid]).argmin()].item()


@pytest.mark.parametrize("true", [0.3, 1.0, 2.5, 8.0])
def test_it_is_where_the_loss_is_least(true):
    logits, targets = drawn(true)
    found = fit_temperature(logits, targets)
    assert found == pytest.approx(on_a_grid(logits, targets), rel=0.003)
    assert found == pytest.approx(true, rel=0.3)
    nearby = [loss(logits, targets, found * factor) for factor in (0.999, 1.001)]
    assert loss(logits, targets, found) < min(nearby)


@pytest.mark.parametrize("true", [0.5, 3.0])
def test_of_sigmoids_too(true):
    rng = torch.Generator().manual_seed(1)
    logits = 3 * torch.randn(200, 4, generator=rng)
    targets = torch.rand(200, 4, generator=rng) < (logits / true).sigmoid()
    found = fit_temperature(logits, targets)
    assert found == pytest.approx(on_a_grid(logits, targets), rel=0.003)
    soft = (logits / true).sigmoid()  # scores that this temperature gives exactly
    assert fit_temperature(logits, soft) == pytest.approx(true, rel=1e-6)


def test_scaled_logits_have_a_scaled_temperature():
    logits, targets = drawn(1.7)
    first, second = fit_temperature(logits, targets), fit_temperature(logits * 4, targets)
    assert second == pytest.approx(4 * first, rel=1e-6)


def test_a_shift_of_an_example_changes_nothing():
    logits, targets = drawn(1.7)
    shifted = logits.double() + torch.arange(len(logits))[:, None]
    assert fit_temperature(shifted, targets) == pytest.approx(fit_temperature(logits, targets))


def test_parts_of_the_data_are_added_up(monkeypatch):
    logits, targets = drawn(1.7)
    expected = fit_temperature(logits, targets)
    monkeypatch.setattr(module, "ROWS", 33)
    assert fit_temperature(logits, targets) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("wrong", [1, 10])
def test_few_mistakes_take_few_passes(monkeypatch, wrong):
    """Where nearly all are right the slope is nearly flat for long."""
    logits = torch.tensor([[8.0, 0.0]]).expand(5000, -1)
    targets = (torch.arange(5000) < wrong).long()
    passes, slope = [], module._slope
    monkeypatch.setattr(module, "_slope", lambda *given: passes.append(given) or slope(*given))
    # 8 / T = log((5000 - wrong) / wrong)
    expected = 8 / math.log((5000 - wrong) / wrong)
    assert fit_temperature(logits, targets) == pytest.approx(expected, rel=1e-8)
    assert len(passes) < 25


def test_labels_without_a_likelihood_do_not_count():
    logits, targets = drawn(2.0)
    more = torch.cat([logits, torch.full((4, 5), math.nan)])
    labels = torch.cat([targets, torch.tensor([-1, IGNORE, -1, IGNORE])])
    assert fit_temperature(more, labels) == fit_temperature(logits, targets)
    scores = torch.cat([(logits > 1).float(), torch.full((4, 5), float(IGNORE))])
    assert fit_temperature(more, scores) == fit_temperature(logits, scores[:-4])


def test_where_all_are_right_it_is_cold_and_where_all_are_wrong_hot():
    logits = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    assert fit_temperature(logits, torch.tensor([0, 1])) == pytest.approx(COLDEST)
    assert fit_temperature(logits, torch.tensor([1, 0])) == pytest.approx(HOTTEST)
    assert fit_temperature(logits[:1], torch.tensor([0])) == pytest.approx(COLDEST)  # one example
    # Double precision holds no loss at either end of the range, or at one.
    assert fit_temperature(logits * 1e6, torch.tensor([0, 1])) == 1.0
    assert fit_temperature(logits * 1e3, torch.tensor([0, 1])) == pytest.approx(COLDEST)


def test_where_it_does_not_matter_it_is_one():
    assert fit_temperature(torch.full((3, 4), 2.0), torch.tensor([0, 1, 2])) == 1.0
    assert fit_temperature(torch.zeros(3, 2), torch.ones(3, 2)) == 1.0
    assert fit_temperature(torch.randn(3, 1), torch.tensor([0, 0, 0])) == 1.0


def test_extreme_logits_are_no_problem():
    logits = torch.tensor([[1e6, 0.0], [1e6, 0.0], [0.0, 1e6]])
    assert fit_temperature(logits, torch.tensor([0, 0, 0])) == pytest.approx(HOTTEST)


def test_without_a_label_there_is_nothing_to_fit():
    with pytest.raises(DataError, match="none of 2 examples has a label among the classes"):
        fit_temperature(torch.zeros(2, 3), torch.tensor([-1, IGNORE]))


def test_broken_logits_are_refused():
    logits = torch.tensor([[0.0, math.nan], [0.0, 1.0], [math.inf, 0.0]])
    with pytest.raises(DataError, match="2 of 3 predictions have logits that are not finite"):
        fit_temperature(logits, torch.tensor([0, 1, 1]))
