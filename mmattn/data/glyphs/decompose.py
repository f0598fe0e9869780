"""Which accents a character's name mentions, by Unicode's canonical decomposition.

U+1EA4 *capital a with circumflex and acute* is canonically U+00C2 plus an acute, and U+00C2 is A
plus a circumflex. The name of each differs from its parent's by one phrase, which names the accent.
"""

import unicodedata
from collections import Counter
from dataclasses import dataclass

from mmattn.data.glyphs.names import caption, composition

# Under an accent above, these lose their dot and are drawn like the dotless letter.
_DOTLESS = {"i": "\u0131", "j": "\u0237"}
_ABOVE = 230  # The canonical combining class of marks that stand above the letter.
# Words of a phrase that qualify the accent and do not name it: double acute, inverted breve.
_QUALIFIERS = {"double", "inverted"}


@dataclass(frozen=True)
class Accent:
    """The last accent of a character: what remains without it, and the phrase that names it."""

    parent: str
    phrase: str


def last_accent(character: str) -> Accent | None:
    """Take off one accent; None where there is none or the name does not say which one it is."""
    codes = unicodedata.decomposition(_follow_singletons(character)).split()
    if len(codes) != 2 or codes[0].startswith("<"):
        return None
    parent, mark = (chr(int(code, 16)) for code in codes)
    added = _parts(character) - _parts(parent)
    if not unicodedata.category(mark).startswith("M") or added.total() != 1:
        return None
    drawn = _DOTLESS.get(parent, parent) if unicodedata.combining(mark) == _ABOVE else parent
    return Accent(drawn, *added)


def accent_word(character: str, phrase: str) -> str:
    """Return the word of the caption that stands for the accent.

    The first word of the phrase that is no qualifier and does not occur in the base's name as well:
    ring above -> ring, dot below -> dot, double acute -> acute, shin dot (on a shin) -> dot.
    """
    taken = _QUALIFIERS | set(caption(character).partition(" with ")[0].split())
    words = [word for word in phrase.split() if word not in taken]
    return words[0] if words else phrase.split()[0]


def _follow_singletons(character: str) -> str:
    """Return what the character is canonically the same as: alpha with oxia is alpha with tonos."""
    codes = unicodedata.decomposition(character).split()
    while len(codes) == 1:
        character = chr(int(codes[0], 16))
        codes = unicodedata.decomposition(character).split()
    return character


def _parts(character: str) -> Counter[str]:
    found = composition(caption(character))
    return Counter(found.parts if found else ())
