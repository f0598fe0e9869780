import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mmattn.metrics.ngram_numbers import NgramNumbers

captions = st.lists(st.lists(st.sampled_from(list("abcd")), max_size=7), max_size=5)


def named(texts, places, n):
    """Return (caption, n-gram, number) of every place, the n-grams read from the texts."""
    grams = [
        (i, tuple(text[j : j + n]))
        for i, text in enumerate(texts)
        for j in range(len(text) - n + 1)
    ]
    assert len(grams) == len(places.ngram)
    found = zip(places.caption.tolist(), places.ngram.tolist(), strict=True)
    return [
        (caption, gram, number) for (caption, gram), (_, number) in zip(grams, found, strict=True)
    ]


@given(captions, captions, captions)
def test_equal_ngrams_have_equal_numbers_and_known_ones_keep_them(first, second, others):
    numbers = NgramNumbers(3).extended(first)
    longer = numbers.extended(second)
    for n, (early, late) in enumerate(
        zip(numbers.places(first), longer.places([*first, *second, *others]), strict=True), 1
    ):
        fixed = {gram: number for _, gram, number in named(first, early, n)}
        assert sorted(set(fixed.values())) == list(range(numbers.known[n - 1]))
        found = named([*first, *second, *others], late, n)
        assert {number for caption, _, number in found if caption < len(first)} <= set(
            fixed.values()
        )
        one_number = {gram: number for _, gram, number in found}
        assert len(set(one_number.values())) == len(one_number)
        assert fixed.items() <= one_number.items()
        known = longer.known[n - 1]
        ends = len(first) + len(second)
        assert all(number < known for caption, _, number in found if caption < ends)
        in_corpora = {gram for caption, gram, _ in found if caption < ends}
        assert all((number < known) == (gram in in_corpora) for _, gram, number in found)
    np.testing.assert_array_equal(late.caption, np.sort(late.caption))
