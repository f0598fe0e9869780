"""Laying out a picture page: cells in rows, a header and small print, text that fits."""

from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from math import ceil
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]
Line = tuple[str, str, int, bool]  # label, text, font size, bold

# The paper is not quite white: a white picture must show where it ends.
INK, FAINT, PAPER = (28, 30, 34), (100, 105, 114), (246, 247, 249)
MARGIN, GAP = 24, 16


def balanced(cells: int, fitting: int) -> int:
    """Return how many columns fill rows evenly where at most `fitting` fit."""
    rows = -(-cells // max(1, fitting))
    return -(-cells // rows)


def tiled(cells: Sequence[Image.Image], columns: int, gap: int = GAP) -> Image.Image:
    """Lay cells out row by row; each row and column is as large as its largest cell."""
    rows = [cells[i : i + columns] for i in range(0, len(cells), columns)]
    widths = [max(cell.width for cell in cells[i::columns]) for i in range(columns)]
    heights = [max(cell.height for cell in row) for row in rows]
    size = sum(widths) + gap * (len(widths) - 1), sum(heights) + gap * (len(heights) - 1)
    sheet = Image.new("RGB", size, PAPER)
    for i, row in enumerate(rows):
        for j, cell in enumerate(row):
            sheet.paste(cell, (sum(widths[:j]) + gap * j, sum(heights[:i]) + gap * i))
    return sheet


def page(header: Sequence[Line], body: Image.Image, notes: Sequence[str]) -> np.ndarray:
    """Header, body and small print below each other, with margins."""
    width = max(body.width, 560)
    small = _text_block([("", note, 11, False) for note in notes], width, FAINT)
    parts = [part for part in (_text_block(header, width), body, small) if part.height]
    inside = tiled(parts, 1)
    sheet = Image.new("RGB", (inside.width + 2 * MARGIN, inside.height + 2 * MARGIN), PAPER)
    sheet.paste(inside, (MARGIN, MARGIN))
    return np.asarray(sheet)


def _text_block(rows: Sequence[Line], width: int, colour: Colour = INK) -> Image.Image:
    """Lines of text beside their labels; long ones wrap."""
    indent = 90 if any(label for label, *_ in rows) else 0
    lines = [
        (label if first else "", line, size, bold)
        for label, text, size, bold in rows
        for first, line in _wrapped(text, _font(size, bold), width - indent)
    ]
    block = Image.new("RGB", (width, sum(round(size * 1.5) for _, _, size, _ in lines)), PAPER)
    foot = 0
    for label, line, size, bold in lines:
        foot += round(size * 1.5)
        base = foot - round(size * 0.4)
        write(block, (0, base), label, 12, FAINT, anchor="ls")
        write(block, (indent, base), line, size, colour, bold=bold, anchor="ls")
    return block


def write(
    sheet: Image.Image,
    at: tuple[int, int],
    text: str,
    size: int,
    colour: Colour = INK,
    *,
    bold: bool = False,
    anchor: str = "la",
) -> None:
    """Write one line of text at a point of the sheet; `anchor` is Pillow's."""
    font = _font(size, bold)
    ImageDraw.Draw(sheet).text(at, _printable(text), fill=colour, font=font, anchor=anchor)


def write_ends(sheet: Image.Image, top: int, low: str, high: str) -> None:
    """Print both ends of a colour bar."""
    write(sheet, (0, top), low, 11, FAINT)
    write(sheet, (sheet.width, top), high, 11, FAINT, anchor="ra")


@lru_cache
def _font(size: int, bold: bool) -> ImageFont.FreeTypeFont:
    """DejaVu Sans as matplotlib ships it: the same everywhere, and wide in scripts."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, size)


def _printable(text: str) -> str:
    """The text on one line: Pillow would break it at a newline."""
    return " ".join(text.split())


def shortened(text: str, size: int, width: int) -> str:
    """Return the text, cut with an ellipsis where it is wider than `width` in bold."""
    font, text = _font(size, True), _printable(text)
    if font.getlength(text) <= width:
        return text
    return text[: _fitting(text, font, width - ceil(font.getlength("\u2026")))] + "\u2026"


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[tuple[bool, str]]:
    """Break a text into lines of at most `width` pixels: (is first, line).

    Lines break between words, and inside a word that is longer than a line.
    """
    words: list[str] = []
    for word in _printable(text).split():
        while word:
            fitting = _fitting(word, font, width)
            words.append(word[:fitting])
            word = word[fitting:]
    lines: list[str] = []
    for word in words:
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return [(i == 0, line) for i, line in enumerate(lines)]


def _fitting(text: str, font: ImageFont.FreeTypeFont, width: int) -> int:
    """How many of the first characters fit into `width` pixels; at least one."""
    lengths = range(1, len(text) + 1)
    return max(1, bisect_right(lengths, width, key=lambda n: font.getlength(text[:n])))
