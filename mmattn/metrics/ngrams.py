"""Counting the n-grams of many captions at once, as arrays."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Tokens = Sequence[str]


@dataclass(frozen=True)
class NgramCounts:
    """One row for each n-gram of each caption, ordered by caption and then by n-gram.

    `caption`, `ngram` and `count` have the same length; n-grams are numbered from 0 to `kinds` - 1.
    """

    caption: np.ndarray
    ngram: np.ndarray
    count: np.ndarray
    kinds: int


def number_words(captions: Sequence[Tokens]) -> np.ndarray:
    """All words of all captions, end to end, as numbers that are equal where the words are."""
    numbers: dict[str, int] = {}
    words = [numbers.setdefault(word, len(numbers)) for caption in captions for word in caption]
    return np.array(words, dtype=np.int64)


def count_ngrams(captions: Sequence[Tokens], order: int) -> list[NgramCounts]:
    """The n-gram counts of every caption, for n = 1 ... `order`."""
    words = number_words(captions)
    vocabulary = int(words.max(initial=0)) + 1
    lengths = np.array([len(caption) for caption in captions], dtype=np.int64)
    caption = np.repeat(np.arange(len(captions)), lengths)
    # How many words of its caption follow each word.
    following = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(words)) - 1

    counts, start, ngram = [], np.arange(len(words)), words
    for n in range(1, order + 1):
        if n > 1:  # the (n - 1)-gram at `start`, and the word that comes after it
            fits = following[start] >= n - 1
            start = start[fits]
            ngram = ngram[fits] * vocabulary + words[start + n - 1]
        kinds, ngram = np.unique(ngram, return_inverse=True)
        counts.append(count_rows(caption[start], ngram, len(kinds)))
    return counts


def count_rows(caption: np.ndarray, ngram: np.ndarray, kinds: int) -> NgramCounts:
    """Merge equal n-grams of the same caption into one row with their number."""
    rows, count = np.unique(caption * max(kinds, 1) + ngram, return_counts=True)
    return NgramCounts(rows // max(kinds, 1), rows % max(kinds, 1), count, kinds)


def look_up(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The value at each wanted key, 0 where it is missing. `keys` must be sorted and distinct."""
    if not len(keys):
        return np.zeros(len(wanted), values.dtype)
    place = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], 0)
