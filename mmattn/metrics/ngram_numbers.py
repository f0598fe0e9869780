"""Numbers for the n-grams of a corpus that stay the same for captions which come later."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from mmattn.metrics.ngrams import Tokens

STRIDE = 1 << 31  # more than there are words: an (n-1)-gram's number times this, plus a word's


class Places(NamedTuple):
    """The n-grams of some captions, one entry for each place where one begins.

    caption: whose it is. ngram: its number; equal n-grams have equal ones.
    """

    caption: np.ndarray
    ngram: np.ndarray


@dataclass(frozen=True)
class NgramNumbers:
    """Numbers the n-grams of captions, for n = 1 ... `order`.

    N-grams of the corpora that it was made from have fixed numbers, 0 ... `known[n - 1]` - 1.
    Others get higher ones, which hold among the captions of one call.

    Attributes:
        order: the longest n-gram.
        words: the number of each known word.
        keys: for every n > 1, sorted arrays, one for each corpus: (n-1)-gram · STRIDE + word.
    """

    order: int
    words: dict[str, int] = field(default_factory=dict)
    keys: tuple[tuple[np.ndarray, ...], ...] = ()

    @property
    def known(self) -> list[int]:
        """How many n-grams have fixed numbers, for each n."""
        counts = [sum(len(part) for part in parts) for parts in self.keys]
        return [len(self.words), *(counts or [0] * (self.order - 1))]

    def extended(self, captions: Sequence[Tokens]) -> "NgramNumbers":
        """Return numbers that are fixed for the n-grams of these captions, too."""
        words = dict(self.words)
        for caption in captions:
            for word in caption:
                words.setdefault(word, len(words))
        known = self.keys or ((),) * (self.order - 1)
        numbers, keys = replace(self, words=words, keys=known), []
        walk = _Walk.over(captions, words)
        for parts in known:
            key = walk.next_keys()
            new = np.unique(key[_look_up(parts, key) < 0])
            keys.append((*parts, new) if len(new) or not parts else parts)
            walk.take(_look_up(keys[-1], key))
        return replace(numbers, keys=tuple(keys))

    def places(self, captions: Sequence[Tokens]) -> list[Places]:
        """Return the numbered n-grams of captions, for each n."""
        walk = _Walk.over(captions, dict(self.words))
        found = [walk.places()]
        for parts, known in zip(self.keys, self.known[1:], strict=True):
            key = walk.next_keys()
            number = _look_up(parts, key)
            new = number < 0
            number[new] = known + np.unique(key[new], return_inverse=True)[1]
            walk.take(number)
            found.append(walk.places())
        return found


class _Walk:
    """The n-grams at each place of some captions, for one n after the other."""

    def __init__(self, words: np.ndarray, lengths: np.ndarray):
        self._words, self._start, self._n = words, np.arange(len(words)), 1
        self._caption = np.repeat(np.arange(len(lengths)), lengths)
        # How many words of its caption follow each word.
        self._following = np.repeat(np.cumsum(lengths), lengths) - self._start - 1
        self._ngram = words

    @classmethod
    def over(cls, captions: Sequence[Tokens], words: dict[str, int]) -> "_Walk":
        """Begin at single words; `words` learns those that it does not know."""
        numbers = [words.setdefault(word, len(words)) for caption in captions for word in caption]
        lengths = np.array([len(caption) for caption in captions], dtype=np.int64)
        return cls(np.array(numbers, dtype=np.int64), lengths)

    def next_keys(self) -> np.ndarray:
        """Go on to n-grams of one word more; return the keys of what stands at their places."""
        fits = self._following[self._start] >= self._n
        self._start, before = self._start[fits], self._ngram[fits]
        self._n += 1
        return before * STRIDE + self._words[self._start + self._n - 1]

    def take(self, numbers: np.ndarray) -> None:
        """Take the numbers of what `next_keys` returned."""
        self._ngram = numbers

    def places(self) -> Places:
        return Places(self._caption[self._start], self._ngram)


def _look_up(parts: Sequence[np.ndarray], keys: np.ndarray) -> np.ndarray:
    """The number of each key in sorted arrays whose numbers follow one another; -1 for none."""
    numbers, start = np.full(len(keys), -1), 0
    for part in parts:
        if len(part):
            place = np.searchsorted(part, keys).clip(max=len(part) - 1)
            numbers = np.where(part[place] == keys, start + place, numbers)
        start += len(part)
    return numbers
