"""A matrix of values as a coloured table: labelled rows and columns over a colour bar."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from mmattn.maps.colours import hatched, palette
from mmattn.maps.geometry import Size
from mmattn.maps.look import Colour, Look
from mmattn.maps.page import colour_bar, page
from mmattn.maps.scale import Reading, Scale, aligned, number, read, scales
from mmattn.maps.text import length, shortened, write, write_upwards

LABEL, NAME = 12, 13  # font sizes
# A label is cut where it is longer than this many pixels.
LONGEST = 130


@dataclass(frozen=True)
class Table:
    """Values [R, C] with the names of both axes and a label for each row and column.

    `allowed` is bool [R, C]: the other cells hold no value and stay blank. `cell` is the (height,
    width) of a cell in pixels; where it is `printed`, it also shows its number.
    """

    values: np.ndarray
    allowed: np.ndarray
    names: tuple[str, str]
    rows: Sequence[str]
    columns: Sequence[str]
    cell: Size
    printed: bool = False


def table_page(
    table: Table, title: str, notes: Sequence[str], signed: bool, vmax: float | None, look: Look
) -> np.ndarray:
    """Draw a table on a page of its own; colours run to `vmax` or the largest magnitude.

    A constant table and one with values that are not finite are called so in the small print.
    Raises `ValueError` for negative values unless `signed`.
    """
    values = np.where(table.allowed, table.values, 0.0)
    reading = read(table.values[table.allowed])
    own = max(abs(reading.low), abs(reading.peak))
    scale = scales(values[None], own if vmax is None else vmax, signed)[0]
    header = [("", title, 19, True)] if title else []
    return page(header, _drawn(table, scale, look), [*_flags(reading), *notes], look.paper)


def _flags(reading: Reading) -> list[str]:
    """The range of the values, and what is wrong with them."""
    flags = []
    if reading.bad < reading.size:
        ends = f"values: {number(reading.low)} to {number(reading.peak)}"
        flags = [f"constant: {number(reading.peak)}" if reading.constant else ends]
    if reading.bad:
        flags.append(f"not finite: {reading.bad} of {reading.size} values (striped cells)")
    return flags


def _drawn(table: Table, scale: Scale, look: Look) -> Image.Image:
    """The table with its labels and its colour bar."""
    body = _cells(table, scale, look)
    rows = [shortened(label, LABEL, False, LONGEST) for label in table.rows]
    columns = [shortened(label, LABEL, False, LONGEST) for label in table.columns]
    upright = _longest(columns) <= table.cell[1] - 4
    left = 34 + _longest(rows)
    top = 28 + (LABEL if upright else _longest(columns))
    bar = _bar(table, scale, min(max(body.width, 160), 320), look)
    size = left + max(body.width, bar.width), top + body.height + 42
    sheet = Image.new("RGB", size, look.paper.sheet)
    sheet.paste(body, (left, top))
    sheet.paste(bar, (left, top + body.height + 17))
    _write_names(sheet, table.names, (left, top), body, look)
    for i, label in enumerate(rows):
        middle = top + i * table.cell[0] + table.cell[0] // 2
        write(sheet, (left - 7, middle), label, LABEL, look.paper.ink, anchor="rm")
    for i, label in enumerate(columns):
        middle = left + i * table.cell[1] + table.cell[1] // 2
        if upright:
            write(sheet, (middle, top - 6), label, LABEL, look.paper.ink, anchor="ms")
        else:
            write_upwards(sheet, (middle, top - 5), label, LABEL, look.paper.ink)
    return sheet


def _longest(labels: Sequence[str]) -> int:
    return max(round(length(label, LABEL, False)) for label in labels)


def _bar(table: Table, scale: Scale, width: int, look: Look) -> Image.Image:
    """The colour bar; its ends say so where values lie beyond them."""
    bar = Image.new("RGB", (width, 25), look.paper.sheet)
    values = table.values[table.allowed & np.isfinite(table.values)]
    low, high = number(scale.vmin), number(scale.vmax)
    low = f"≤ {low}" if (values < scale.vmin).any() else low
    high = f"≥ {high}" if (values > scale.vmax).any() else high
    colour_bar(bar, 0, look, scale, (low, high))
    return bar


def _write_names(
    sheet: Image.Image,
    names: tuple[str, str],
    corner: tuple[int, int],
    body: Image.Image,
    look: Look,
) -> None:
    """Name the axes: that of the rows beside the table, that of the columns above it."""
    (left, top), (down, across) = corner, names
    half = round(length(down, NAME, False)) // 2
    at = 8, min(top + body.height // 2 + half, sheet.height)
    write_upwards(sheet, at, down, NAME, look.paper.faint)
    write(sheet, (left + body.width // 2, 2), across, NAME, look.paper.faint, anchor="ma")


def _cells(table: Table, scale: Scale, look: Look) -> Image.Image:
    """The coloured cells, one pixel of paper between them."""
    finite = np.isfinite(table.values)
    levels = scale.levels(np.where(finite & table.allowed, table.values, 0.0))
    colours = palette(look.colours(scale.signed), scale.signed)
    colours = colours[np.clip(levels, 0, 255).astype(np.uint8)]
    colours[~table.allowed] = look.paper.blank
    height, width = table.cell
    size = width * colours.shape[1], height * colours.shape[0]
    body = Image.fromarray(colours).resize(size, Image.Resampling.NEAREST)
    stripes = hatched(width, height, look.paper.blank, look.paper.sheet)
    for row, column in np.argwhere(table.allowed):
        at = (int(column) * width, int(row) * height)
        if not finite[row, column]:
            body.paste(stripes, at)
        elif table.printed:
            middle = at[0] + width // 2, at[1] + height // 2
            ink = _ink_on(colours[row, column])
            text = aligned(float(table.values[row, column]), scale.vmax)
            write(body, middle, text, LABEL, ink, anchor="mm")
    return _spaced(body, table.cell, look.paper.sheet)


def _spaced(body: Image.Image, cell: Size, sheet: Colour) -> Image.Image:
    """Draw the gaps between the cells, on the last row and column of pixels of each."""
    pixels = np.array(body)
    pixels[cell[0] - 1 :: cell[0]] = sheet
    pixels[:, cell[1] - 1 :: cell[1]] = sheet
    return Image.fromarray(pixels)


def _ink_on(colour: np.ndarray) -> Colour:
    """Black or white, whichever has more contrast on a colour (WCAG 2.2, relative luminance)."""
    linear = (colour / 255) ** 2.2
    light = linear @ np.array([0.2126, 0.7152, 0.0722])
    return (0, 0, 0) if light > 0.18 else (255, 255, 255)
