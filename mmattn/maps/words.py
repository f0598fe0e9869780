"""From tokens to words: the maps of a word's pieces become the map of the word."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

Span = tuple[int, int]
Reduction = Literal["mean", "sum"]


@dataclass(frozen=True)
class Word:
    """A word of a caption: `text` is caption[start:end], `tokens` the indices of its tokens."""

    text: str
    start: int
    end: int
    tokens: tuple[int, ...]


def group_words(text: str, offsets: Sequence[Span]) -> list[Word]:
    """Group tokens into the words that white space separates in `text`.

    `offsets` holds the characters (start, end) of each token in this text, as `tokenizers` gives
    them or `CaptionTokenizer.offsets`. Spans may include the space before a word, and byte-level
    tokens that split a character may share it. A token belongs to at most one word:

    - a token of white space alone opens the word after it;
    - words that one token spans ("New York" as a single token) are one word;
    - an empty span is a part of a character, or a trimmed space: it belongs to the word at its
      place, or else to the next one;
    - the span (0, 0) is how special tokens and padding are marked: they belong to no word, nor does
      what stands after the last word. `left_out` lists them.

    Words without a token are not returned. Raises `ValueError` for a span outside the text.
    """
    bounds = [match.span() for match in re.finditer(r"\S+", text)]
    tokens: list[list[int]] = [[] for _ in bounds]
    joined = [False] * len(bounds)  # joined[i]: one token spans the words i - 1 and i
    for token, span in enumerate(offsets):
        first, last = _words_touched(bounds, _checked_span(token, span, text))
        if first < len(bounds):
            tokens[first].append(token)
            joined[first + 1 : last + 1] = [True] * (last - first)
    return _words(text, bounds, tokens, joined)


def left_out(words: Sequence[Word], tokens: int) -> tuple[int, ...]:
    """The indices among `tokens` tokens that are in no word: special tokens and padding."""
    used = {token for word in words for token in word.tokens}
    return tuple(token for token in range(tokens) if token not in used)


def merge(maps: np.ndarray, words: Sequence[Word], reduction: Reduction = "mean") -> np.ndarray:
    """Reduce the maps [T, ...] of the tokens to the maps of the words: float64 [W, ...].

    `mean` averages a word's tokens: maps that sum to 1 give maps that sum to 1. `sum` adds them:
    all words together keep the mass of all their tokens. Tokens that are in no word are not
    counted; `left_out` lists them. Raises `ValueError` for a word with a token beyond T.
    """
    if reduction not in get_args(Reduction):
        raise ValueError(f"reduction is one of {', '.join(get_args(Reduction))}, not {reduction!r}")
    maps = np.asarray(maps)
    merged = np.zeros((len(words), *maps.shape[1:]))
    for i, word in enumerate(words):
        if max(word.tokens) >= len(maps):
            raise ValueError(
                f"the word {word.text!r} has token {max(word.tokens)}, but there are maps of "
                f"{len(maps)} tokens; the first axis of the maps must be the tokens"
            )
        total = maps[list(word.tokens)].sum(axis=0, dtype=np.float64)
        merged[i] = total / len(word.tokens) if reduction == "mean" else total
    return merged


def _checked_span(token: int, span: Span, text: str) -> Span:
    start, end = span
    if not 0 <= start <= end <= len(text):
        raise ValueError(
            f"token {token} spans the characters {start} to {end}, but the text has {len(text)}; "
            f"offsets must belong to this very text"
        )
    return span


def _words_touched(bounds: list[Span], span: Span) -> Span:
    """First and last word of a token; first = len(bounds) where it belongs to none."""
    start, end = span
    if end == 0:
        return len(bounds), len(bounds)
    first = bisect_right(bounds, start, key=lambda bound: bound[1])
    last = bisect_left(bounds, end, key=lambda bound: bound[0]) - 1
    return first, max(first, last)


def _words(
    text: str, bounds: list[Span], tokens: list[list[int]], joined: list[bool]
) -> list[Word]:
    """Build the words, those that a token joins as one, without those that have no token."""
    words: list[Word] = []
    for (start, end), own, join in zip(bounds, tokens, joined, strict=True):
        if join:
            before = words.pop()
            start, own = before.start, [*before.tokens, *own]
        if own:
            words.append(Word(text[start:end], start, end, tuple(own)))
    return words
