"""How pictures look: interpolation, opacity, colour maps, and the paper they are drawn on."""

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from mmattn.maps.geometry import Mode

Colour = tuple[int, int, int]
Theme = Literal["light", "dark"]


class Paper(NamedTuple):
    """The colours of a page: the sheet, text, small print, and a cell that holds no value."""

    sheet: Colour
    ink: Colour
    faint: Colour
    blank: Colour


# Paper is not quite white and not quite black: a picture must show where it ends. Text on it has a
# contrast of at least 5 to 1 (WCAG 2.2 asks for 4.5).
_PAPERS = {
    "light": Paper((246, 247, 249), (28, 30, 34), (94, 99, 108), (222, 224, 228)),
    "dark": Paper((24, 26, 31), (232, 234, 238), (158, 164, 174), (60, 63, 71)),
}


@dataclass(frozen=True)
class Look:
    """How maps are drawn.

    Args:
        mode: how patches become pixels.
        alpha: opacity at the top of the scale.
        colormap: matplotlib's name of the sequential colour map. Inferno is perceptually uniform:
            equal steps look equal; its lightness only rises, so it can be read in print without
            colour and with any colour vision, and hardly anything in a photo has its colours.
        diverging: that of values with a sign. Coolwarm (Moreland 2009) is blue below 0 and red
            above it, a pair that red-green blindness keeps apart; both sides darken alike. Its ends
            keep their colour over a grey picture; those of PuOr are brown and almost black.
        theme: "light" or "dark" paper.

    Raises:
        ValueError: for an unknown theme, or an opacity outside 0 to 1.
    """

    mode: Mode = "bicubic"
    alpha: float = 0.8
    colormap: str = "inferno"
    diverging: str = "coolwarm"
    theme: Theme = "light"

    def __post_init__(self):
        if self.theme not in get_args(Theme):
            raise ValueError(f"theme is 'light' or 'dark', not {self.theme!r}")
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha is an opacity from 0 to 1, got {self.alpha}")

    @property
    def paper(self) -> Paper:
        """The colours of the theme."""
        return _PAPERS[self.theme]

    def colours(self, signed: bool) -> str:
        """The colour map for values with or without a sign."""
        return self.diverging if signed else self.colormap


LOOK = Look()
