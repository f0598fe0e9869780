"""Unicode names: what a caption says, and the parts of a name "... with ... and ..."."""

import unicodedata
from dataclasses import dataclass


@dataclass(frozen=True)
class Composition:
    """A name of the form "base with part and part"."""

    base: str
    parts: tuple[str, ...]


def caption(character: str) -> str:
    """Return the character's Unicode name in lower case, or "" where it has none."""
    return unicodedata.name(character, "").lower()


def composition(name: str) -> Composition | None:
    """Split a lower-case name at its first " with "; None where it has no " with "."""
    base, found, rest = name.partition(" with ")
    return Composition(base, tuple(rest.split(" and "))) if found else None


def script(name: str) -> str:
    """Return the first word of a name in upper case: LATIN, GREEK, BOX, ..."""
    return name.partition(" ")[0].upper()
