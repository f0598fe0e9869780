import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmattn.errors import DataError
from mmattn.metrics.uncertainty import uncertainty


def entropy(p):
    return -sum(x * math.log(x) for x in p if x > 0)


def softmaxed(rows):
    return [[math.exp(x) / sum(map(math.exp, row)) for x in row] for row in rows]


row = st.lists(st.integers(-4, 4), min_size=3, max_size=3)


@given(st.lists(row, min_size=1, max_size=6))
def test_the_numbers_are_those_of_plain_python(passes):
    p = softmaxed(passes)
    mean = [sum(each) / len(p) for each in zip(*p, strict=True)]
    found = uncertainty(torch.tensor(p, dtype=torch.double)[:, None])
    expected = sum(map(entropy, p)) / len(p)
    votes = [one.index(max(one)) for one in p]
    assert found.mean[0].tolist() == pytest.approx(mean)
    assert found.predictive_entropy.item() == pytest.approx(entropy(mean))
    assert found.expected_entropy.item() == pytest.approx(expected)
    assert found.mutual_information.item() == pytest.approx(entropy(mean) - expected, abs=1e-12)
    assert found.mutual_information.item() >= 0
    most = max(votes.count(vote) for vote in votes)
    assert found.variation_ratio.item() == pytest.approx(1 - most / len(p))


def test_passes_that_disagree_are_told_from_an_ambiguous_case():
    certain = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    ambiguous = torch.tensor([[0.5, 0.5], [0.5, 0.5]])
    found = uncertainty(torch.stack([certain, ambiguous], 1))
    assert found.predictive_entropy.tolist() == pytest.approx([math.log(2)] * 2)
    assert found.expected_entropy.tolist() == pytest.approx([0, math.log(2)])
    assert found.mutual_information.tolist() == pytest.approx([math.log(2), 0])
    assert found.variation_ratio.tolist() == [0.5, 0.0]


def test_rounding_makes_no_disagreement_negative():
    p = torch.rand(1, 50, 3, generator=torch.Generator().manual_seed(4)).double().softmax(-1)
    assert (uncertainty(p.repeat(3, 1, 1)).mutual_information >= 0).all()


def test_the_order_of_passes_does_not_matter():
    p = torch.rand(5, 3, 4, generator=torch.Generator().manual_seed(0)).softmax(-1)
    for first, second in zip(uncertainty(p), uncertainty(p.flip(0)), strict=True):
        torch.testing.assert_close(first, second)


def test_independent_classes_are_measured_one_by_one():
    p = torch.rand(4, 2, 3, generator=torch.Generator().manual_seed(0))
    found = uncertainty(torch.stack([p, 1 - p], -1))
    assert found.mutual_information.shape == (2, 3)
    one = uncertainty(torch.stack([p[:, 1, 2], 1 - p[:, 1, 2]], -1))
    assert found.predictive_entropy[1, 2] == one.predictive_entropy


def test_half_precision_adds_up_well_enough():
    p = torch.randn(3, 2, 3000, generator=torch.Generator().manual_seed(0)).softmax(-1)
    assert uncertainty(p.bfloat16()).predictive_entropy.isfinite().all()


@pytest.mark.parametrize("row", [[0.5, 0.4], [1.5, -0.5], [math.nan, 0.5]])
def test_what_are_no_probabilities_is_refused(row):
    with pytest.raises(DataError, match="must be at least 0 and add up to 1"):
        uncertainty(torch.tensor([[[0.5, 0.5], row]]))


def test_no_pass_is_refused():
    with pytest.raises(DataError, match="there is no pass"):
        uncertainty(torch.empty(0, 2, 3))
