"""The pairs that the matcher learns from: what is called false never is true."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmattn.tasks.matching import draw, matching_pairs


@st.composite
def batches(draw_from):
    images = draw_from(st.integers(1, 5))
    owner = draw_from(st.lists(st.integers(0, images - 1), min_size=1, max_size=8))
    positive = torch.tensor(
        draw_from(
            st.lists(
                st.lists(st.booleans(), min_size=len(owner), max_size=len(owner)),
                min_size=images,
                max_size=images,
            )
        )
    )
    positive[torch.tensor(owner), torch.arange(len(owner))] = True
    return positive, torch.tensor(owner), draw_from(st.sampled_from([None, 0.0, 0.5, 1.0]))


@given(batches(), st.integers(0, 5))
def test_false_pairs_are_never_true_and_true_ones_are_ones_own(batch, seed):
    positive, owner, hard = batch
    torch.manual_seed(seed)
    similarity = None if hard is None else 30 * torch.randn(positive.shape)
    pairs = matching_pairs(similarity, positive, owner, hard or 0.0)
    for image, text, target in zip(*(each.tolist() for each in pairs), strict=True):
        assert owner[text] == image if target else not positive[image, text]
    # One true pair for each image with a text, and one false one wherever there is any.
    with_text = owner.unique()
    own = pairs.texts[pairs.target == 1]
    assert pairs.images[pairs.target == 1].tolist() == with_text.tolist()
    expected = (~positive).any(1).sum() + (~positive[:, own]).any(0).sum()
    assert (pairs.target == 0).sum() == expected


@pytest.mark.parametrize("hard", [0.0, 0.5, 1.0])
def test_what_is_more_similar_is_drawn_more_often(hard):
    torch.manual_seed(0)
    scores = torch.tensor([[2.0, 1.0, 9.0, 0.0]]).expand(20000, -1)
    allowed = torch.tensor([[True, True, False, True]]).expand(20000, -1)
    queries, drawn = draw(scores, allowed, hard)
    assert queries.tolist() == list(range(20000))
    found = drawn.bincount(minlength=4) / 20000
    by_score = torch.tensor([2.0, 1.0, -torch.inf, 0.0]).softmax(0)
    expected = hard * by_score + (1 - hard) * torch.tensor([1.0, 1.0, 0.0, 1.0]) / 3
    torch.testing.assert_close(found, expected, rtol=0, atol=0.015)


def test_without_similarities_all_are_drawn_alike():
    torch.manual_seed(0)
    positive, owner = torch.eye(4, dtype=torch.bool), torch.arange(4)
    counts = torch.zeros(4, 4)
    for _ in range(3000):
        pairs = matching_pairs(None, positive, owner)
        for image, text in zip(pairs.images[4:8], pairs.texts[4:8], strict=True):
            counts[image, text] += 1
    expected = (1 - torch.eye(4)) / 3
    torch.testing.assert_close(counts / 3000, expected, rtol=0, atol=0.04)


@pytest.mark.parametrize("number", [1, 3])
def test_where_everything_is_true_there_is_no_false_pair(number):
    everything = torch.ones(number, number, dtype=torch.bool)
    pairs = matching_pairs(torch.zeros(number, number), everything, torch.arange(number))
    assert pairs.target.tolist() == [1] * number


def test_the_same_seed_draws_the_same():
    positive, owner = torch.eye(6, dtype=torch.bool), torch.arange(6)
    similarity = torch.randn(6, 6, generator=torch.Generator().manual_seed(3))
    found = []
    for seed in (4, 4, 5):
        torch.manual_seed(seed)
        found.append(torch.stack(matching_pairs(similarity, positive, owner)))
    assert found[0].equal(found[1])
    assert not found[0].equal(found[2])
