"""Batches by the length of texts: what holds for any lengths, and how they are resumed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmattn.data.loader import StatefulLoader
from mmattn.data.order import epoch_batches, rank_batches
from mmattn.data.token_batches import TokenBatches
from mmattn.errors import CheckpointError, ConfigError, DataError

sizes = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 6)), min_size=1, max_size=300)


def batches_of(pairs, world_size=1, tokens=240, most=8, seed=3):
    longest, texts = zip(*pairs, strict=True)
    options = {"tokens": tokens, "most": most, "world_size": world_size, "seed": seed}
    return TokenBatches(longest, texts, **options)


@given(sizes, st.integers(1, 3), st.integers(0, 5))
def test_every_sample_once_within_the_budget_on_every_rank(pairs, world_size, epoch):
    order = batches_of(pairs, world_size)
    batches = order(epoch)
    assert len(batches) == len(order)
    ragged = [batch for batch in batches if len(set(batch)) < len(batch)]
    assert len(ragged) <= 1
    assert sorted(i for batch in batches for i in set(batch)) == list(range(len(pairs)))
    shares = [rank_batches(batches, rank, world_size) for rank in range(world_size)]
    unequal = 0
    for parts in zip(*shares, strict=True):
        counts = {len(part) for part in parts}
        assert max(counts) - min(counts) <= 1
        unequal += len(counts) > 1
        for part in parts:
            assert 1 <= len(part) <= 8
            longest = max(pairs[i][0] for i in part)
            assert len(part) * max(pairs[i][1] for i in part) * longest <= 240
    assert unequal <= 1


@given(sizes, st.integers(1, 3))
def test_all_epochs_have_as_many_batches_in_orders_of_their_own(pairs, world_size):
    order = batches_of(pairs, world_size)
    epochs = [order(epoch) for epoch in range(4)]
    assert {len(batches) for batches in epochs} == {len(order)}
    assert order(2) == batches_of(pairs, world_size)(2) == epochs[2]
    if len(pairs) > 30:
        assert len({repr(batches) for batches in epochs}) == 4
        assert order(0) != batches_of(pairs, world_size, seed=4)(0)


def lengths_like_captions(count=6000):
    """The longest of five captions, in tokens, as in Flickr8k: 10 to 32, mostly 14 to 20."""
    draw = np.random.RandomState(0)
    return [(int(n), 5) for n in draw.normal(12, 4, (count, 5)).clip(6, 32).max(1).round()]


def test_padding_is_saved_and_neighbours_change():
    pairs = lengths_like_captions()
    order = batches_of(pairs, tokens=32 * 5 * 18, most=64)
    plain = epoch_batches(len(pairs), 32, 1, 3, 0, True, False)

    def padding(batches):
        padded = sum(len(b) * max(pairs[i][0] for i in b) for b in batches)
        return 1 - sum(n for n, _ in pairs) / padded

    assert padding(plain) > 0.25
    assert padding(order(0)) < 0.03

    def neighbours(batches):
        return {(a, b) for batch in batches for a in batch for b in batch if a < b}

    first, second = (neighbours(order(epoch)) for epoch in (0, 1))
    assert len(first & second) / len(first) < 0.15


class Keys:
    def __init__(self, length):
        self.length = length

    def __len__(self):
        return self.length

    def __getitems__(self, items):
        return items


def loader(pairs, tokens=240, world_size=1, rank=0):
    options = {"batch_size": 8, "seed": 3, "shuffle": True, "drop_last": True, "rank": rank}
    order = batches_of(pairs, world_size, tokens)
    return StatefulLoader(
        Keys(len(pairs)), collate_fn=list, world_size=world_size, order=order, **options
    )


@pytest.mark.fault("F2")
def test_resuming_after_any_batch_gives_the_rest():
    pairs = lengths_like_captions(100)
    whole, states, one = [], [], loader(pairs)
    for _ in range(2):
        for batch in one:
            whole.append(batch)
            states.append(one.state_dict())
    assert {epoch for batch in whole for epoch, _ in batch} == {0, 1}
    for done, state in enumerate(states[:-1], start=1):
        again = loader(pairs)
        again.load_state_dict(state)
        rest = list(again)
        assert rest == whole[done : done + len(rest)]
        assert len(rest) == len(again) - state["delivered"]


@pytest.mark.parametrize(
    "other", [{"tokens": 200}, {"pairs": lengths_like_captions(99)}, {"world_size": 2}]
)
def test_a_state_of_other_batches_is_refused(other):
    pairs = lengths_like_captions(100)
    with pytest.raises(CheckpointError, match=r"tokens_per_batch|data set|ranks"):
        loader(**({"pairs": pairs} | other)).load_state_dict(loader(pairs).state_dict())


def test_what_cannot_fit_is_refused_with_both_numbers():
    with pytest.raises(ConfigError, match=r"tokens_per_batch=240 is less than the 246 tokens"):
        batches_of([(3, 2), (41, 6)])
    with pytest.raises(DataError, match="empty"):
        TokenBatches([], [], tokens=9, most=3, world_size=1, seed=0)
