"""What may be read instead of a sample: any, or any that is no larger, and always the same."""

from itertools import islice

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mmattn.data.stand_ins import any_sample, no_larger

sizes = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 4)), min_size=1, max_size=60)


@given(sizes, st.data())
def test_all_that_are_no_larger_come_once_and_nothing_else(pairs, data):
    index = data.draw(st.integers(0, len(pairs) - 1))
    longest, texts = np.array(pairs).T
    found = list(no_larger(index, (longest, texts), seed=3))
    a, b = pairs[index]
    expected = {i for i, (x, y) in enumerate(pairs) if x <= a and y <= b and i != index}
    assert sorted(found) == sorted(expected)
    assert found == list(no_larger(index, (longest, texts), seed=3))


def test_each_sample_and_each_seed_has_an_order_of_its_own():
    same = np.ones(50, int), np.ones(50, int)
    drawn = [list(no_larger(i, same, seed))[:5] for i in (7, 8) for seed in (0, 1)]
    drawn += [list(islice(any_sample(i, 50, seed), 5)) for i in (7, 8) for seed in (0, 1)]
    assert len({tuple(each) for each in drawn}) == 8


def test_any_sample_comes_in_the_end():
    assert set(islice(any_sample(4, 20, seed=1), 400)) == set(range(20))
