"""The fonts that matplotlib ships: which there are, and which characters each one draws."""

from difflib import get_close_matches
from pathlib import Path

import matplotlib
from matplotlib.ft2font import FT2Font

from mmattn.errors import ConfigError

TEXT_FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSans-BoldOblique",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "DejaVuSansMono-Oblique",
    "DejaVuSansMono-BoldOblique",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSerif-Italic",
    "DejaVuSerif-BoldItalic",
)


def font_folder() -> Path:
    """Return the folder of matplotlib's TrueType fonts."""
    return Path(matplotlib.get_data_path()) / "fonts" / "ttf"


def font_path(stem: str) -> Path:
    """Return the file of the text font named `stem`. Raises `ConfigError` with the nearest name."""
    if stem in TEXT_FONTS:
        return font_folder() / f"{stem}.ttf"
    near = get_close_matches(stem, TEXT_FONTS, n=1, cutoff=0.4)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    raise ConfigError(f"There is no font {stem!r}. {hint}Known: {', '.join(TEXT_FONTS)}.")


def mapped_characters(stem: str) -> list[str]:
    """Return the characters to which the font `stem` maps a glyph, in code point order."""
    return [chr(code) for code in sorted(FT2Font(str(font_path(stem))).get_charmap())]
