from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mmattn.metrics.ngrams import count_ngrams, look_up

captions = st.lists(st.lists(st.sampled_from("abc"), max_size=7), min_size=1, max_size=6)


def plain_counts(tokens, n):
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


@given(captions, st.integers(1, 5))
def test_counts_equal_a_plain_count(captions, order):
    for n, rows in enumerate(count_ngrams(captions, order), start=1):
        plain = [plain_counts(tokens, n) for tokens in captions]
        for i, counter in enumerate(plain):
            assert sorted(rows.count[rows.caption == i]) == sorted(counter.values())
        assert rows.kinds == len(set().union(*plain))


def test_equal_ngrams_have_equal_numbers_in_all_captions():
    (_, pairs) = count_ngrams([["a", "b", "a", "b"], ["c"], ["x", "a", "b"]], 2)
    first = dict(zip(pairs.ngram[pairs.caption == 0], pairs.count[pairs.caption == 0], strict=True))
    last = set(pairs.ngram[pairs.caption == 2])
    assert sorted(first.values()) == [1, 2]
    (shared,) = last & set(first)
    assert first[shared] == 2
    assert not (pairs.caption == 1).any()


def test_no_words_at_all():
    for rows in count_ngrams([[], []], 3):
        assert rows.kinds == len(rows.count) == 0


def test_look_up_gives_zero_for_missing_keys():
    keys, values = np.array([2, 5, 9]), np.array([20.0, 50.0, 90.0])
    wanted = np.array([1, 2, 5, 6, 9, 10])
    assert look_up(keys, values, wanted).tolist() == [0, 20, 50, 0, 90, 0]
    assert look_up(keys[:0], values[:0], wanted).tolist() == [0] * 6
