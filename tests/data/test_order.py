import itertools
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmattn.data.order import batch_count, epoch_batches, rank_batches, stable_hash
from mmattn.errors import ConfigError, DataError

sizes = st.tuples(st.integers(1, 60), st.integers(1, 7), st.integers(1, 5))


def test_stable_hash_is_the_same_in_every_process_and_release():
    # printf "(3, 1, '1000268201.jpg', 'image')" | b2sum -l 64, read little-endian, halved
    assert stable_hash(3, 1, "1000268201.jpg", "image") == 3096180086673444727
    code = "from mmattn.data.order import stable_hash; print(stable_hash('ß', -1))"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": salt},
            capture_output=True,
            check=True,
        ).stdout
        for salt in ("1", "2")
    }
    assert outputs == {f"{stable_hash('ß', -1)}\n".encode()}


def test_stable_hash_keeps_its_parts_apart_and_below_2_to_63():
    parts = [(1, 23), (12, 3), ("1", 23), ("1", "23"), ("123",), (1, "2", 3)]
    values = {stable_hash(*p) for p in parts}
    assert len(values) == len(parts)
    assert all(0 <= v < 2**63 for v in values)


def test_the_order_of_an_epoch_is_pinned():
    first = epoch_batches(10, 5, 1, seed=0, epoch=0, shuffle=True, drop_last=True)
    second = epoch_batches(10, 5, 1, seed=0, epoch=1, shuffle=True, drop_last=True)
    assert first == [[8, 1, 4, 2, 7], [5, 9, 0, 3, 6]]
    assert second == [[9, 6, 7, 5, 1], [4, 3, 0, 8, 2]]


@given(sizes, st.integers(0, 2**63 - 1), st.integers(0, 99), st.booleans())
def test_every_index_comes_exactly_once_but_for_padding(size, seed, epoch, shuffle):
    length, batch_size, world_size = size
    batches = epoch_batches(*size, seed, epoch, shuffle, drop_last=False)
    flat = list(itertools.chain(*batches))
    assert sorted(set(flat)) == list(range(length))
    left_over = length % (batch_size * world_size)
    padding = world_size - left_over if 0 < left_over < world_size else 0
    assert len(flat) == length + padding
    assert set(flat[length:]) <= set(batches[-1])
    assert len(batches) == batch_count(*size, drop_last=False)


@given(sizes, st.booleans(), st.booleans())
def test_all_ranks_get_as_many_batches_of_nearly_the_same_size(size, shuffle, drop_last):
    length, batch_size, world_size = size
    if drop_last and length < batch_size * world_size:
        return
    batches = epoch_batches(*size, 1, 2, shuffle, drop_last)
    shares = [rank_batches(batches, rank, world_size) for rank in range(world_size)]
    for step, batch in enumerate(batches):
        lengths = [len(share[step]) for share in shares]
        assert min(lengths) >= 1
        assert max(lengths) - min(lengths) <= 1
        assert max(lengths) <= batch_size
        assert sorted(i for share in shares for i in share[step]) == sorted(batch)


@given(st.integers(12, 80), st.booleans(), st.booleans())
def test_global_batches_do_not_depend_on_the_number_of_ranks(length, shuffle, drop_last):
    one, two, six = (
        epoch_batches(length, 12 // ranks, ranks, 5, 3, shuffle, drop_last) for ranks in (1, 2, 6)
    )
    whole = length // 12
    assert one[:whole] == two[:whole] == six[:whole]
    assert [set(b) for b in one] == [set(b) for b in two] == [set(b) for b in six]


def test_drop_last_drops_the_ragged_end_alone():
    kept = epoch_batches(23, 4, 1, 0, 0, shuffle=True, drop_last=False)
    assert epoch_batches(23, 4, 1, 0, 0, shuffle=True, drop_last=True) == kept[:5]
    assert len(kept[5]) == 3


def test_without_shuffling_the_order_is_that_of_the_data_set():
    assert epoch_batches(5, 2, 1, 9, 9, shuffle=False, drop_last=False) == [[0, 1], [2, 3], [4]]


def test_seed_and_epoch_give_other_orders():
    orders = {
        str(epoch_batches(30, 30, 1, seed, epoch, shuffle=True, drop_last=False))
        for seed in range(5)
        for epoch in range(5)
    }
    assert len(orders) == 25


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((0, 4, 1, False), DataError, "0 samples"),
        ((7, 4, 2, True), ConfigError, "7 samples.* 8 .*drop_last=false"),
        ((7, 0, 2, False), ConfigError, "batch_size=0"),
        ((7, 1, 0, False), ConfigError, "world_size=0"),
    ],
)
def test_no_batches_is_an_error_that_names_the_remedy(arguments, error, words):
    with pytest.raises(error, match=words):
        batch_count(*arguments)
