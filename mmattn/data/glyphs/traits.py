"""What can be told of a character: its script, category, case, letter and mark."""

import unicodedata
from dataclasses import dataclass

from mmattn.data.glyphs.decompose import accent_word, last_accent
from mmattn.data.glyphs.names import caption, script


@dataclass(frozen=True)
class Traits:
    """The traits of one character, in words; None where it has none of that kind.

    Attributes:
        name: its Unicode name in small letters.
        script: such as "latin".
        category: Unicode's general category in words, such as "uppercase letter".
        case: "capital" or "small".
        letter: the base letter, such as "e".
        mark: the word of its one accent; None without accents, or with several.
    """

    name: str
    script: str
    category: str
    case: str | None
    letter: str | None
    mark: str | None


CATEGORIES = {
    "Lu": "uppercase letter",
    "Ll": "lowercase letter",
    "Lt": "titlecase letter",
    "Lm": "modifier letter",
    "Lo": "other letter",
    "Nd": "decimal number",
    "Nl": "letter number",
    "No": "other number",
    "Pc": "connector punctuation",
    "Pd": "dash punctuation",
    "Ps": "open punctuation",
    "Pe": "close punctuation",
    "Pi": "initial punctuation",
    "Pf": "final punctuation",
    "Po": "other punctuation",
    "Sm": "math symbol",
    "Sc": "currency symbol",
    "Sk": "modifier symbol",
    "So": "other symbol",
}
_CASES = {"Lu": "capital", "Ll": "small"}


def traits(character: str) -> Traits:
    """Return what can be told of a character."""
    name, category = caption(character), unicodedata.category(character)
    case = _CASES.get(category)
    return Traits(
        name=name,
        script=script(name).lower(),
        category=CATEGORIES[category],
        case=case,
        letter=_letter(name, case),
        mark=_mark(character),
    )


def _letter(name: str, case: str | None) -> str | None:
    """Return X of "latin small letter X" and "latin small letter X with …"; None for others."""
    start, found, rest = name.partition(f"{case} letter ")
    letter = rest.partition(" with ")[0]
    return letter if found and start and " " not in letter else None


def _mark(character: str) -> str | None:
    accent = last_accent(character)
    if accent is None or last_accent(accent.parent) is not None:
        return None
    return accent_word(character, accent.phrase)
