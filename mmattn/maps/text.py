"""Text in pictures: one line at a point, cut or wrapped to a width.

Rendering text is half of what drawing a page costs, and from one logging to the next most lines are
the same. So rendered lines, their lengths and their breaks are kept.
"""

from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from math import ceil
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from mmattn.maps.look import Colour


def write(
    sheet: Image.Image,
    at: tuple[int, int],
    text: str,
    size: int,
    colour: Colour,
    *,
    bold: bool = False,
    anchor: str = "la",
) -> None:
    """Write one line of text at a point of the sheet; `anchor` is Pillow's."""
    mask, (left, top) = _rendered(one_line(text), size, bold, anchor)
    if mask is not None:
        sheet.paste(colour, (at[0] + left, at[1] + top), mask)


def write_upwards(
    sheet: Image.Image, at: tuple[int, int], text: str, size: int, colour: Colour
) -> None:
    """Write one line that starts at a point and runs upwards, with that point at mid-height."""
    mask, (left, top) = _rendered(one_line(text), size, False, "lm")
    if mask is not None:
        turned = mask.transpose(Image.Transpose.ROTATE_90)
        sheet.paste(colour, (at[0] + top, at[1] - left - mask.width), turned)


def write_parts(
    sheet: Image.Image,
    at: tuple[int, int],
    parts: Sequence[str],
    size: int,
    colour: Colour,
    *,
    centred: bool = False,
) -> None:
    """Write the parts of a line after one another, each rendered by itself.

    A pair of numbers seldom comes twice; each of its numbers does.
    """
    widths = [length(f"{part} ", size, False) for part in parts]
    left = at[0] - (sum(widths) / 2 if centred else 0)
    for part, across in zip(parts, widths, strict=True):
        write(sheet, (round(left), at[1]), part, size, colour)
        left += across


def one_line(text: str) -> str:
    """The text on one line: Pillow would break it at a newline."""
    return " ".join(text.split())


@lru_cache(maxsize=4096)
def length(text: str, size: int, bold: bool) -> float:
    """Return how many pixels a line of text advances."""
    return _font(size, bold).getlength(text)


def shortened(text: str, size: int, bold: bool, width: int) -> str:
    """Return the text, cut with an ellipsis where it is wider than `width`."""
    text = one_line(text)
    if length(text, size, bold) <= width:
        return text
    return text[: _fitting(text, size, bold, width - ceil(length("…", size, bold)))] + "…"


@lru_cache(maxsize=512)
def wrapped(text: str, size: int, bold: bool, width: int) -> tuple[str, ...]:
    """Break a text into lines of at most `width` pixels.

    Lines break between words, and inside a word that is longer than a line.
    """
    text = one_line(text)
    if not text or length(text, size, bold) <= width:
        return (text,) if text else ()
    lines = [""]
    for word in _pieces(text, size, bold, width):
        longer = f"{lines[-1]} {word}".strip()
        if length(longer, size, bold) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return tuple(line for line in lines if line)


def _pieces(text: str, size: int, bold: bool, width: int) -> list[str]:
    """The words of a text, those longer than `width` pixels cut into pieces that are not."""
    pieces: list[str] = []
    for word in text.split():
        while word:
            fitting = _fitting(word, size, bold, width)
            pieces.append(word[:fitting])
            word = word[fitting:]
    return pieces


def _fitting(text: str, size: int, bold: bool, width: int) -> int:
    """How many of the first characters fit into `width` pixels; at least one."""
    if length(text, size, bold) <= width:
        return len(text)
    font, lengths = _font(size, bold), range(1, len(text) + 1)
    return max(1, bisect_right(lengths, width, key=lambda n: font.getlength(text[:n])))


@lru_cache
def _font(size: int, bold: bool) -> ImageFont.FreeTypeFont:
    """DejaVu Sans as matplotlib ships it: the same everywhere, and wide in scripts."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, size)


@lru_cache(maxsize=1024)
def _rendered(
    text: str, size: int, bold: bool, anchor: str
) -> tuple[Image.Image | None, tuple[int, int]]:
    """A line as a mask, and where its corner lies from the anchor; no mask where nothing shows."""
    font = _font(size, bold)
    left, top, right, bottom = (round(edge) for edge in font.getbbox(text, anchor=anchor))
    if right <= left or bottom <= top:
        return None, (0, 0)
    mask = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(mask).text((-left, -top), text, fill=255, font=font, anchor=anchor)
    return mask, (left, top)
