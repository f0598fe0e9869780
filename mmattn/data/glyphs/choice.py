"""Which characters to use: those drawn alone, of the chosen scripts and general categories."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from mmattn.data.glyphs.names import caption, script
from mmattn.errors import ConfigError, DataError


@dataclass(frozen=True)
class Choice:
    """First words of Unicode names and prefixes of general categories; None chooses all."""

    scripts: Sequence[str] | None
    categories: Sequence[str] | None

    def select(self, mapped: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
        """Return font -> chosen characters, from font -> characters that the font maps.

        Raises `ConfigError` for a script or category that no character has, and `DataError` where
        scripts and categories have no character in common.
        """
        drawn = {font: [c for c in chars if not why_not_drawn(c)] for font, chars in mapped.items()}
        every = {character for characters in drawn.values() for character in characters}
        self._check(every)
        chosen = {font: [c for c in chars if self._wants(c)] for font, chars in drawn.items()}
        if not any(chosen.values()):
            raise DataError(
                f"Of {len(every)} characters in {len(mapped)} fonts, 0 are of scripts "
                f"{self.scripts} and categories {self.categories}. Choose more of either."
            )
        return chosen

    def _wants(self, character: str) -> bool:
        right_script = self.scripts is None or script(caption(character)) in self.scripts
        category = unicodedata.category(character)
        return right_script and (
            self.categories is None or category.startswith(tuple(self.categories))
        )

    def _check(self, characters: Iterable[str]) -> None:
        scripts = {script(caption(c)) for c in characters}
        for name in self.scripts or ():
            if name not in scripts:
                _refuse("scripts", name, scripts)
        categories = {unicodedata.category(c) for c in characters}
        for prefix in self.categories or ():
            if not any(category.startswith(prefix) for category in categories):
                _refuse("categories", prefix, categories)


def why_not_drawn(character: str) -> str:
    """Return why the character cannot stand in a picture of its own, "" where it can."""
    if not caption(character):
        return "without a Unicode name"
    kinds = {"C": "control or format", "M": "combining mark", "Z": "space"}
    return kinds.get(unicodedata.category(character)[0], "")


def count_not_drawn(mapped: Mapping[str, Sequence[str]]) -> Counter[str]:
    """Count the distinct characters that are never used, by reason."""
    every = {character for characters in mapped.values() for character in characters}
    return Counter(reason for c in every if (reason := why_not_drawn(c)))


def _refuse(key: str, value: str, known: Iterable[str]) -> None:
    near = get_close_matches(value, sorted(known), n=1)
    listed = sorted(known)
    shown = ", ".join(listed) if len(listed) <= 40 else f"{', '.join(listed[:40])}, ..."
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ConfigError(f"{key}: no character in the chosen fonts is {value!r}.{hint} Known: {shown}")
