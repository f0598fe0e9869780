"""The source: from a choice of fonts and scripts to training, validation and test sets."""

from collections import Counter
from collections.abc import Mapping, Sequence

from mmattn.data.dataset import Splits
from mmattn.data.glyphs.choice import Choice, count_not_drawn
from mmattn.data.glyphs.division import Division, divide
from mmattn.data.glyphs.fonts import font_path, mapped_characters
from mmattn.data.glyphs.glyph_set import GlyphSet
from mmattn.data.glyphs.holdout import Pair
from mmattn.data.glyphs.render import FontPictures, render_font
from mmattn.errors import ConfigError, DataError

_FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "DejaVuSerif",
)


class Glyphs:
    """Characters of the DejaVu fonts, each drawn in several fonts, with its Unicode name.

    `size`: side of the square pictures in pixels. `fonts` and `held_out_fonts`: file stems
    (`fonts.TEXT_FONTS`). `scripts`: first words of the names, such as LATIN; `categories`: prefixes
    of Unicode's general categories, such as L (letters) or Lu (capitals); None chooses all.
    `held_out_compositions`: share of the characters named "... with ..." that are held out in every
    font. `val_fraction`: share of the (character, training font) pairs held out for validation.

    The test sets: `fonts` shows characters of the training set in the held-out fonts;
    `compositions` shows unseen characters, all parts of whose names were seen, in the training
    fonts. A test set that would be empty is absent, and the notes say so.
    """

    def __init__(
        self,
        size: int = 32,
        fonts: Sequence[str] = _FONTS,
        held_out_fonts: Sequence[str] = ("DejaVuSerif-Bold",),
        scripts: Sequence[str] | None = None,
        categories: Sequence[str] | None = None,
        held_out_compositions: float = 0.15,
        val_fraction: float = 0.05,
        seed: int = 0,
    ):
        self.size = _checked_size(size)
        self.fonts, self.held_out_fonts = _checked_fonts(fonts, held_out_fonts)
        self.choice = Choice(_words("scripts", scripts), _words("categories", categories))
        if not 0 <= held_out_compositions < 1:
            raise ConfigError(
                f"held_out_compositions is {held_out_compositions}. Give a share from 0 to below 1."
            )
        if not 0 < val_fraction < 1:
            raise ConfigError(f"val_fraction is {val_fraction}. Give a share between 0 and 1.")
        self.held_out_compositions = held_out_compositions
        self.val_fraction = val_fraction
        self.seed = seed

    def splits(self) -> Splits:
        """Draw all pictures and divide them. Raises `ConfigError` or `DataError`."""
        mapped = {font: mapped_characters(font) for font in (*self.fonts, *self.held_out_fonts)}
        chosen = self.choice.select(mapped)
        pictures = {font: render_font(font, self.size, chosen[font]) for font in mapped}
        parts = divide(
            _pairs(self.fonts, pictures),
            _pairs(self.held_out_fonts, pictures),
            self.held_out_compositions,
            self.val_fraction,
            self.seed,
        )
        if not parts.val:
            raise DataError(
                f"val_fraction {self.val_fraction} of {len(parts.train)} pictures in "
                f"{len(self.fonts)} training fonts leaves 0 for validation. Raise val_fraction, or "
                "give two or more fonts that have characters in common."
            )
        tests = {"fonts": parts.fonts, "compositions": parts.compositions}
        return Splits(
            train=GlyphSet(parts.train, pictures),
            val=GlyphSet(parts.val, pictures),
            test={name: GlyphSet(pairs, pictures) for name, pairs in tests.items() if pairs},
            notes=(*self._notes(parts), *_skip_notes(mapped, pictures)),
        )

    def _notes(self, parts: Division) -> list[str]:
        held = len({character for character, _ in parts.compositions})
        wanted = round(self.held_out_compositions * parts.composed)
        notes = [
            f"{len({c for c, _ in parts.train})} characters, {len(parts.train)} training pictures, "
            f"{len(parts.val)} for validation, {len(parts.fonts)} to test held-out fonts, "
            f"{len(parts.compositions)} to test held-out compositions",
            f'held out {held} of {parts.composed} characters named "... with ..."',
        ]
        if held < wanted:
            notes.append(f"{wanted} were asked for; each part of a name must stay in training")
        return notes


def _pairs(fonts: Sequence[str], pictures: Mapping[str, FontPictures]) -> list[Pair]:
    return [(character, font) for font in fonts for character in pictures[font].rows]


def _skip_notes(
    mapped: Mapping[str, Sequence[str]], pictures: Mapping[str, FontPictures]
) -> list[str]:
    never = [f"{n} {reason}" for reason, n in sorted(count_not_drawn(mapped).items())]
    skipped = sum((each.skipped for each in pictures.values()), Counter())
    drawn = [f"{n} {reason}" for reason, n in sorted(skipped.items())]
    notes = []
    if never:
        notes.append(f"characters never used: {', '.join(never)}")
    if drawn:
        notes.append(f"pictures skipped, over {len(pictures)} fonts: {', '.join(drawn)}")
    return notes


def _checked_size(size: int) -> int:
    if size < 8:
        raise ConfigError(f"size is {size} pixels. Give 8 or more; accents vanish below 24.")
    return size


def _checked_fonts(
    fonts: Sequence[str], held_out: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    training, testing = _words("fonts", fonts) or (), _words("held_out_fonts", held_out) or ()
    for stem in (*training, *testing):
        font_path(stem)
    if not training:
        raise ConfigError("fonts is empty. Give one training font or more.")
    twice = [stem for stem, n in Counter((*training, *testing)).items() if n > 1]
    if twice:
        raise ConfigError(
            f"{', '.join(twice)}: named twice in fonts and held_out_fonts. Name each font once."
        )
    return training, testing


def _words(key: str, values: Sequence[str] | None) -> tuple[str, ...] | None:
    if isinstance(values, str):
        raise ConfigError(f"{key} is the word {values!r}. Give a list: [{values}].")
    return None if values is None else tuple(values)
