"""Draw the glyphs of one font: fixed baseline, one font size, centred by ink, no glyph rescaled."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mmattn.data.glyphs.fonts import font_path

# A picture is drawn on a canvas of at least this side and averaged down. Hinting, which moves
# edges to whole pixels of the canvas, then moves nothing visibly; and DejaVu Sans' strokes are 13
# pixels thick, enough to tell accents apart (`regions`).
_LEAST_SIDE = 256
_LEAST_FACTOR = 4
# What the canvas holds, in em. DejaVu's capitals with two stacked accents reach 1.07 em above the
# baseline (1.15 in the bold serif); cedillas and hooks reach 0.28 below.
ASCENT, DESCENT = 1.12, 0.28
# A code point outside every font: drawing it gives the font's .notdef box.
_UNMAPPED = "\U0010ffff"


Box = tuple[int, int, int, int]
"""Left, top, right and bottom of a glyph's ink, relative to its origin on the baseline."""


class Pen:
    """Draws the characters of one font for pictures of `size` pixels a side.

    The canvas is square with `side` pixels, `factor` times the picture's side.
    """

    def __init__(self, stem: str, size: int):
        self.factor = max(_LEAST_FACTOR, -(-_LEAST_SIDE // size))
        self.side = side = size * self.factor
        self.baseline = round(side * ASCENT / (ASCENT + DESCENT))
        # The basic layout draws each code point's own glyph: no shaping, whatever is installed.
        layout = ImageFont.Layout.BASIC
        em = side / (ASCENT + DESCENT)
        self._font = ImageFont.truetype(str(font_path(stem)), em, layout_engine=layout)

    def box(self, character: str) -> Box:
        """Return the box of the ink; all zero without ink.

        (`FreeTypeFont.getbbox` would count the advance as ink.)
        """
        mask, (across, down) = self._font.getmask2(character, mode="L", anchor="ls")
        left, top, right, bottom = mask.getbbox() or (-across, -down) * 2
        return across + left, down + top, across + right, down + bottom

    def origin(self, box: Box) -> int:
        """Return the column of a glyph's origin when its ink is centred across."""
        return round((self.side - box[0] - box[2]) / 2)

    def fits(self, box: Box) -> bool:
        """Tell whether all of a glyph's ink lies on the canvas."""
        left, top, right, bottom = box
        fits_across = right - left <= self.side
        return fits_across and -top <= self.baseline and bottom <= self.side - self.baseline

    def draw(self, character: str, box: Box) -> Image.Image:
        """Return the ink (0 = none, 255 = full) as a grey image, centred across by its box."""
        canvas = Image.new("L", (self.side, self.side))
        origin = (self.origin(box), self.baseline)
        ImageDraw.Draw(canvas).text(origin, character, fill=255, font=self._font, anchor="ls")
        return canvas


@dataclass(frozen=True)
class FontPictures:
    """The pictures of one font: `images` is uint8 [n, size, size], black ink (0) on white (255).

    `rows` says which row shows a character; `skipped` counts the characters without a picture by
    the reason.
    """

    rows: dict[str, int]
    images: np.ndarray
    skipped: Counter[str]


def render_font(stem: str, size: int, characters: Iterable[str]) -> FontPictures:
    """Draw the characters at `size` pixels a side; skip those without a picture of their own."""
    pen = Pen(stem, size)
    notdef = _Drawn(pen, _UNMAPPED)
    rows: dict[str, int] = {}
    pictures: list[np.ndarray] = []
    skipped: Counter[str] = Counter()
    for character in characters:
        drawn = _Drawn(pen, character)
        if reason := _why_skip(pen, drawn, notdef):
            skipped[reason] += 1
            continue
        rows[character] = len(pictures)
        pictures.append(255 - np.asarray(drawn.ink.reduce(pen.factor)))
    images = np.stack(pictures) if pictures else np.zeros((0, size, size), np.uint8)
    return FontPictures(rows, images, skipped)


class _Drawn:
    def __init__(self, pen: Pen, character: str):
        self.box = pen.box(character)
        self.ink = pen.draw(character, self.box)


def _why_skip(pen: Pen, drawn: _Drawn, notdef: _Drawn) -> str:
    if drawn.box[0] == drawn.box[2]:
        return "no ink"
    if not pen.fits(drawn.box):
        return "larger than the canvas"
    # The boxes are compared first because that is much faster than comparing pixels.
    is_notdef = drawn.box == notdef.box and drawn.ink == notdef.ink
    return "drawn as the font's box for missing glyphs" if is_notdef else ""
