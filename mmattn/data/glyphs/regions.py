"""The pixels of the accents in a glyph's picture: ground truth for where a word should look.

The letter without accents is drawn, found within the composed glyph, and taken away; what remains
is the accents. Two accents are told apart by finding the first one, as drawn with the first accent
alone, within what remains. All of this on the canvas from which the picture is averaged down.
"""

from functools import lru_cache

import numpy as np

from mmattn.data.glyphs.decompose import accent_word, last_accent
from mmattn.data.glyphs.fonts import mapped_characters
from mmattn.data.glyphs.masks import dilate, drop_specks, locate, shift
from mmattn.data.glyphs.render import Pen

# A letter is found within the composed glyph where this share of its pixels lies on ink, and an
# accent within all accents: fonts flatten an accent somewhat to stack another one on it.
_LETTER_FOUND, _ACCENT_FOUND = 0.95, 0.8
# The smallest accent, as a share of the canvas; DejaVu Sans' dots cover 0.4 %.
_LEAST = 0.001
# A pixel of the picture belongs to an accent that covers this share of it.
_COVERAGE = 0.25
# How much a letter's outline may differ between the plain and the composed glyph, and how far above
# or below its place on the parent an accent may stand, as shares of the canvas's side.
_SLACK, _REACH = 1 / 128, 5 / 32


class AccentFinder:
    """Finds the accents of one font's glyphs, as masks of pictures of `size` pixels a side."""

    def __init__(self, font: str, size: int):
        self._pen = Pen(font, size)
        self._mapped = frozenset(mapped_characters(font))
        self._slack = round(_SLACK * self._pen.side)
        self._reach = round(_REACH * self._pen.side)

    def regions(self, character: str) -> dict[str, np.ndarray]:
        """Return word -> bool mask [size, size]; empty where the accents cannot be told cleanly."""
        masks: dict[str, np.ndarray] = {}
        for phrase, mask in (self._accents(character) or {}).items():
            word = accent_word(character, phrase)
            covered = self._to_picture(mask)
            masks[word] = masks[word] | covered if word in masks else covered
        return masks if all(mask.any() for mask in masks.values()) else {}

    def _accents(self, character: str) -> dict[str, np.ndarray] | None:
        """Return phrase -> mask on the character's canvas; None where one is not found cleanly."""
        accent = last_accent(character)
        if accent is None:
            return {}
        inner = self._accents(accent.parent)
        rest = self._without_letter(character)
        if inner is None or rest is None:
            return None
        found: dict[str, np.ndarray] = {}
        for phrase, mask in inner.items():
            guess = self._guess(accent.parent, character)
            place = _place(mask, rest, guess, self._reach, _ACCENT_FOUND)
            if place is None:
                return None
            found[phrase] = rest & dilate(place, self._slack)
            rest &= ~found[phrase]
        found[accent.phrase] = drop_specks(rest, self._slack)
        return found if found[accent.phrase].mean() >= _LEAST else None

    def _without_letter(self, character: str) -> np.ndarray | None:
        """Return the composed glyph's ink outside the letter; None where that is not found."""
        letter = character
        while accent := last_accent(letter):
            letter = accent.parent
        if not self._mapped.issuperset((letter, character)):
            return None
        whole = self._shape(character)
        guess = self._guess(letter, character)
        near = dilate(whole, 1)
        place = _place(self._shape(letter), near, guess, self._slack, _LETTER_FOUND)
        return (
            None if place is None else drop_specks(whole & ~dilate(place, self._slack), self._slack)
        )

    def _guess(self, part: str, whole: str) -> int:
        """Return the shift to the right that puts both glyphs' origins into the same column."""
        return self._origin(whole) - self._origin(part)

    def _origin(self, character: str) -> int:
        return self._pen.origin(self._pen.box(character))

    def _shape(self, character: str) -> np.ndarray:
        return np.asarray(self._pen.draw(character, self._pen.box(character))) > 127

    def _to_picture(self, mask: np.ndarray) -> np.ndarray:
        factor, size = self._pen.factor, self._pen.side // self._pen.factor
        cells = mask.reshape(size, factor, size, factor)
        return cells.mean(axis=(1, 3)) >= _COVERAGE


def _place(
    part: np.ndarray, whole: np.ndarray, guess: int, reach: int, found: float
) -> np.ndarray | None:
    """Return `part` moved to where it lies in `whole`; None if less than `found` of it does."""
    placed = shift(part, *locate(part, whole, guess, reach))
    return placed if (placed & whole).sum() >= found * part.sum() else None


@lru_cache(maxsize=16)
def accent_finder(font: str, size: int) -> AccentFinder:
    """Return the finder for a font and a picture size."""
    return AccentFinder(font, size)
