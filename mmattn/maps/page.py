"""Laying out a picture page: cells in rows, a header and small print."""

from collections.abc import Sequence
from math import ceil
from typing import Literal

import numpy as np
from PIL import Image

from mmattn.maps.colours import ramp
from mmattn.maps.look import Colour, Look, Paper
from mmattn.maps.scale import Scale, number
from mmattn.maps.text import length, one_line, wrapped, write

Line = tuple[str, str, int, bool]  # label, text, font size, bold

MARGIN, GAP = 24, 16
# Text is as wide as what it describes, or up to this many pixels.
TEXT = 560


def balanced(cells: int, fitting: int) -> int:
    """Return how many columns fill rows evenly where at most `fitting` fit."""
    rows = -(-cells // max(1, fitting))
    return -(-cells // rows)


def tiled(cells: Sequence[Image.Image], columns: int, paper: Paper, gap: int = GAP) -> Image.Image:
    """Lay cells out row by row; each row and column is as large as its largest cell."""
    rows = [cells[i : i + columns] for i in range(0, len(cells), columns)]
    widths = [max(cell.width for cell in cells[i::columns]) for i in range(columns)]
    heights = [max(cell.height for cell in row) for row in rows]
    size = sum(widths) + gap * (len(widths) - 1), sum(heights) + gap * (len(heights) - 1)
    sheet = Image.new("RGB", size, paper.sheet)
    for i, row in enumerate(rows):
        for j, cell in enumerate(row):
            sheet.paste(cell, (sum(widths[:j]) + gap * j, sum(heights[:i]) + gap * i))
    return sheet


def page(
    header: Sequence[Line], body: Image.Image, notes: Sequence[str], paper: Paper
) -> np.ndarray:
    """Header, body and small print below each other, with margins: uint8 RGB [H, W, 3]."""
    lines = [*header, *(("", note, 11, False) for note in notes)]
    needed = max((length(one_line(text), size, bold) for _, text, size, bold in lines), default=0)
    width = max(body.width, min(ceil(needed), TEXT))
    small = _text_block([("", note, 11, False) for note in notes], width, paper, paper.faint)
    parts = [_text_block(header, width, paper, paper.ink), body, small]
    parts = [part for part in parts if part.height]
    height = sum(part.height for part in parts) + GAP * (len(parts) - 1)
    sheet = Image.new("RGB", (width + 2 * MARGIN, height + 2 * MARGIN), paper.sheet)
    top = MARGIN
    for part in parts:
        sheet.paste(part, (MARGIN, top))
        top += part.height + GAP
    return np.asarray(sheet)


def framed(picture: Image.Image, width: int, below: int, paper: Paper) -> Image.Image:
    """A picture in the middle of a cell of some width, with room below."""
    cell = Image.new("RGB", (width, picture.height + below), paper.sheet)
    cell.paste(picture, ((width - picture.width) // 2, 0))
    return cell


def axis_cell(
    text: str, width: int, height: int, anchor: Literal["ms", "rm"], paper: Paper
) -> Image.Image:
    """A label in a cell: at the foot for a column of a grid, at the right for a row."""
    cell = Image.new("RGB", (width, height), paper.sheet)
    at = (width // 2, height - 2) if anchor == "ms" else (width - 8, height // 2)
    write(cell, at, text, 13, paper.ink, anchor=anchor)
    return cell


def colour_bar(
    cell: Image.Image, top: int, look: Look, scale: Scale, ends: tuple[str, str] | None = None
) -> None:
    """Draw a scale over the width of a cell, 20 pixels high, with `ends` printed, or its own."""
    cell.paste(ramp(cell.width, 6, look.colours(scale.signed), scale.signed), (0, top))
    low, high = ends or (number(scale.vmin), number(scale.vmax))
    for x, text, anchor in [(0, low, "la"), (cell.width, high, "ra")]:
        write(cell, (x, top + 9), text, 11, look.paper.faint, anchor=anchor)
    if scale.signed:
        write(cell, (cell.width // 2, top + 9), "0", 11, look.paper.faint, anchor="ma")


def _text_block(rows: Sequence[Line], width: int, paper: Paper, colour: Colour) -> Image.Image:
    """Lines of text beside their labels; long ones wrap."""
    indent = 90 if any(label for label, *_ in rows) else 0
    lines = [
        (label if i == 0 else "", line, size, bold)
        for label, text, size, bold in rows
        for i, line in enumerate(wrapped(text, size, bold, width - indent))
    ]
    height = sum(round(size * 1.5) for _, _, size, _ in lines)
    block = Image.new("RGB", (width, height), paper.sheet)
    foot = 0
    for label, line, size, bold in lines:
        foot += round(size * 1.5)
        base = foot - round(size * 0.4)
        write(block, (0, base), label, 12, paper.faint, anchor="ls")
        write(block, (indent, base), line, size, colour, bold=bold, anchor="ls")
    return block
