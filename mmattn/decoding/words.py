"""What the tokens of a vocabulary say: with it a word is found however it is cut into tokens."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

# A text -> the token sequences that write it inside a caption, in small and in capital letters.
Ways = Callable[[str], Sequence[Sequence[int]]]

# Bytes that stand for all that are like them: of a word, of none, and the second or later ones of
# a character. No text in UTF-8 has any of them.
LETTER, APART, GOES_ON = 0xFF, 0xC1, 0xC0
SPACE = 0x20
SPACES = bytes.maketrans(b"\t\n\v\f\r", b"     ")


def part_of_word(byte: int, within: bool) -> bool:
    """Return whether a byte of UTF-8 belongs to a word, as letters and digits do.

    `within` says so of the byte before it: the later bytes of a character are what its first is.
    """
    if byte < 0x80:
        return chr(byte).isalnum()
    if byte <= GOES_ON:
        return within
    # Characters of several bytes are letters, but for those that begin with 0xC2 (Latin-1's
    # symbols), 0xE2 (dashes, quotes, symbols) and 0xF0 (emoji).
    return byte not in (APART, 0xC2, 0xE2, 0xF0)


def like(byte: int) -> int:
    """Return which of LETTER, APART and GOES_ON a byte is like."""
    if 0x80 <= byte <= GOES_ON:
        return GOES_ON
    return LETTER if part_of_word(byte, False) else APART


GENERIC = bytes(map(like, range(256)))


class Phrase(NamedTuple):
    """A text to be found as whole words.

    text: without spaces around it, its case folded. whole: its last letter ends a word ("cat",
    where "cat*" is also found in "cattle").
    """

    text: bytes
    whole: bool


class Shapes(NamedTuple):
    """Texts that are like those of all tokens, and for each token which of them is."""

    texts: list[bytes]
    of: Int[Tensor, "V"]


class Words:
    """What every token says, and how words are written with tokens.

    Args:
        pieces: for each token the bytes that it adds to a text, nothing for special tokens
            (`CaptionTokenizer.pieces`).
        ways: how a text is written; raises DataError for one that the vocabulary does not have
            (`CaptionTokenizer.ways`).
        size: V, where the model has more tokens than the tokenizer; those say nothing.
    """

    def __init__(self, pieces: Sequence[bytes], ways: Ways, size: int = 0):
        nothing = [b""] * max(size - len(pieces), 0)
        self.raw = [*pieces, *nothing]
        self.pieces = [folded(piece) for piece in self.raw]
        self.ways = ways

    def phrases(self, text: str) -> frozenset[Phrase]:
        """Return what to look for: `text` as whole words, whatever its letters' case.

        A text that ends in "*" is also found where the word goes on. Raises DataError where the
        vocabulary does not have it.
        """
        open_end = text.rstrip().endswith("*")
        ways = self.ways(text.rstrip().removesuffix("*"))
        raw = {b"".join(self.raw[token] for token in way).strip() for way in ways}
        # A capital that is written byte by byte is not folded where it is read, but for ASCII.
        said = {folded(text) for text in raw} | {text.lower() for text in raw}
        return frozenset(Phrase(s, not open_end and ends_in_word(s)) for s in said)

    @cached_property
    def shapes(self) -> Shapes:
        """How every token begins and ends: all that counts of one that is in no phrase."""
        shapes = [shape(piece) for piece in self.pieces]
        number = {text: i for i, text in enumerate(dict.fromkeys(shapes))}
        return Shapes(list(number), torch.tensor([number[text] for text in shapes]))

    def parts(self, phrase: Phrase) -> set[int]:
        """Return the tokens that write a part of a phrase: begin it, go on with it or end it.

        The others are nothing to it, wherever they stand.
        """
        text, found = phrase.text, set()
        for start in range(len(text)):
            index = self._whole if start else self._tails
            for end in range(start + 1, len(text) + 1):
                found.update(index.tokens[text[start:end]] if text[start:end] in index else ())
            rest = len(text) - start
            for longer in index.beginning(text[start:]):
                if not phrase.whole or not part_of_word(longer[rest], True):
                    found.update(index.tokens[longer])
        return found

    @cached_property
    def _whole(self) -> "_Index":
        return _Index((piece, token) for token, piece in enumerate(self.pieces) if piece)

    @cached_property
    def _tails(self) -> "_Index":
        return _Index(
            (piece[start:], token)
            for token, piece in enumerate(self.pieces)
            for start in word_starts(piece)
        )


def folded(text: bytes) -> bytes:
    """Return a text in which small letters are as capitals, and all that parts lines are spaces.

    Bytes that are no whole characters stay as they are.
    """
    try:
        text = text.decode().casefold().encode()
    except UnicodeDecodeError:
        text = text.lower()
    return text.translate(SPACES)


def shape(piece: bytes) -> bytes:
    """Return a shorter text that parts words as `piece` does: nothing, spaces, or its two ends."""
    if not piece.strip(b" "):
        return piece[:1]
    generic = piece.translate(GENERIC)
    return generic[:1] + generic.rstrip(bytes([GOES_ON]))[-1:]


class _Index:
    """Tokens by what they say, in alphabetical order."""

    def __init__(self, entries: Iterable[tuple[bytes, int]]):
        self.tokens: dict[bytes, list[int]] = defaultdict(list)
        for text, token in entries:
            self.tokens[text].append(token)
        self.order = sorted(self.tokens)

    def __contains__(self, text: bytes) -> bool:
        return text in self.tokens

    def beginning(self, text: bytes) -> Iterator[bytes]:
        """Yield the longer texts that begin with `text`."""
        for longer in islice(self.order, bisect_left(self.order, text), None):
            if not longer.startswith(text):
                return
            if longer != text:
                yield longer


def word_starts(piece: bytes) -> list[int]:
    """Return the places of a token's text where a phrase may begin.

    These are the first one, where a word begins, and whatever parts words but for spaces.
    """
    places, within = [], False
    for i, byte in enumerate(piece):
        if byte != SPACE and (i == 0 or not within or not part_of_word(byte, within)):
            places.append(i)
        within = part_of_word(byte, within)
    return places


def ends_in_word(text: bytes) -> bool:
    """Return whether the last character of a text belongs to a word."""
    within = False
    for byte in text:
        within = part_of_word(byte, within)
    return within
