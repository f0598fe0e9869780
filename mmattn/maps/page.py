"""Laying out a picture page: cells in rows, a header and small print."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from mmattn.maps.text import Colour, wrapped, write

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
    height = sum(part.height for part in parts) + GAP * (len(parts) - 1)
    sheet = Image.new("RGB", (width + 2 * MARGIN, height + 2 * MARGIN), PAPER)
    top = MARGIN
    for part in parts:
        sheet.paste(part, (MARGIN, top))
        top += part.height + GAP
    return np.asarray(sheet)


def _text_block(rows: Sequence[Line], width: int, colour: Colour = INK) -> Image.Image:
    """Lines of text beside their labels; long ones wrap."""
    indent = 90 if any(label for label, *_ in rows) else 0
    lines = [
        (label if i == 0 else "", line, size, bold)
        for label, text, size, bold in rows
        for i, line in enumerate(wrapped(text, size, bold, width - indent))
    ]
    block = Image.new("RGB", (width, sum(round(size * 1.5) for _, _, size, _ in lines)), PAPER)
    foot = 0
    for label, line, size, bold in lines:
        foot += round(size * 1.5)
        base = foot - round(size * 0.4)
        write(block, (0, base), label, 12, FAINT, anchor="ls")
        write(block, (indent, base), line, size, colour, bold=bold, anchor="ls")
    return block


def write_ends(sheet: Image.Image, top: int, low: str, high: str) -> None:
    """Print both ends of a colour bar."""
    write(sheet, (0, top), low, 11, FAINT)
    write(sheet, (sheet.width, top), high, 11, FAINT, anchor="ra")
