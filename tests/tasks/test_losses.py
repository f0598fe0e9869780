"""Losses by the kind of a head, each against its definition."""

import pytest
import torch
from torch.nn import functional as F

from mmattn.batch import IGNORE
from mmattn.errors import ConfigError
from mmattn.tasks.losses import LossOptions, class_weights, head_loss

PLAIN = LossOptions()


def scores(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*shape, generator=generator, dtype=torch.double, requires_grad=True)


def test_one_class_is_cross_entropy_over_what_has_a_label():
    given, target = scores(5, 4), torch.tensor([0, 3, IGNORE, -1, 2])
    expected = F.cross_entropy(given[[0, 1, 4]], target[[0, 1, 4]])
    torch.testing.assert_close(head_loss("single", given, target, PLAIN), expected)


def test_smoothing_and_weights_are_those_of_torch():
    given, target = scores(5, 4), torch.tensor([0, 3, 1, 2, 2])
    weights = torch.tensor([1.0, 2.0, 0.5, 3.0]).double()
    options = LossOptions(label_smoothing=0.2)
    losses = F.cross_entropy(given, target, weights, reduction="none", label_smoothing=0.2)
    torch.testing.assert_close(head_loss("single", given, target, options, weights), losses.mean())


def test_focal_counts_what_is_right_already_less():
    given, target = scores(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    p = given.softmax(-1).gather(1, target[:, None])[:, 0]
    expected = (-((1 - p) ** 2) * p.log()).mean()
    torch.testing.assert_close(head_loss("single", given, target, LossOptions(focal=2.0)), expected)


def test_words_count_one_by_one():
    given = scores(2, 3, 4)
    target = torch.tensor([[0, 1, IGNORE], [3, IGNORE, IGNORE]])
    kept = target >= 0
    expected = F.cross_entropy(given[kept], target[kept])
    torch.testing.assert_close(head_loss("words", given, target, PLAIN), expected)


@pytest.mark.parametrize("kind", ["multi", "soft"])
@pytest.mark.parametrize("focal", [0.0, 1.5])
def test_scores_are_binary_cross_entropies(kind, focal):
    given = scores(3, 4)
    target = torch.tensor([[1, 0, 0.3, 0], [IGNORE] * 4, [0, 0.9, 0, 1]]).double()
    weights = torch.tensor([1.0, 2.0, 0.5, 3.0]).double()
    p = given.sigmoid()
    losses = -(weights * target * p.log() + (1 - target) * (1 - p).log())
    right = p * target + (1 - p) * (1 - target)
    expected = (losses * (1 - right) ** focal).sum(-1)[[0, 2]].mean()
    found = head_loss(kind, given, target, LossOptions(focal=focal), weights)
    torch.testing.assert_close(found, expected)


def test_shares_of_classes_are_soft_cross_entropy():
    given = scores(2, 3)
    target = torch.tensor([[0.7, 0.3, 0.0], [IGNORE] * 3]).double()
    expected = -(target[0] * given[0].log_softmax(-1)).sum()
    torch.testing.assert_close(head_loss("single", given, target, PLAIN), expected)


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        ("single", torch.tensor([IGNORE, -1])),
        ("multi", torch.full((2, 3), float(IGNORE)).double()),
    ],
)
def test_nothing_to_learn_is_zero_with_a_gradient_of_zero(kind, target):
    given = scores(2, 3)
    loss = head_loss(kind, given, target, PLAIN)
    loss.backward()
    assert loss == 0
    assert given.grad is not None
    assert not given.grad.any()


def test_balanced_weights_make_classes_count_alike():
    balanced = LossOptions(class_weights="balanced")
    weights = class_weights(balanced, "single", [6, 3, 1], 10)
    assert weights is not None
    torch.testing.assert_close(weights * torch.tensor([6.0, 3, 1]), torch.full((3,), 10 / 3))
    multi = class_weights(balanced, "multi", [5, 2], 10)
    torch.testing.assert_close(multi, torch.tensor([1.0, 4.0]))
    given = class_weights(LossOptions(class_weights=[1, 2]), "single", [5, 2], 7)
    torch.testing.assert_close(given, torch.tensor([1.0, 2.0]))
    assert class_weights(PLAIN, "single", [5, 2], 7) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_smoothing": 1.0}, "label_smoothing=1.0"),
        ({"focal": -1.0}, "focal=-1.0"),
        ({"class_weights": "even"}, "class_weights is 'even'"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ConfigError, match=message):
        LossOptions(**options)


def test_one_weight_a_class():
    with pytest.raises(ConfigError, match="3 numbers and the head 2 classes"):
        class_weights(LossOptions(class_weights=[1, 2, 3]), "single", [5, 2], 7)
