"""The same words on two sides (models, checkpoints, images), below each other on one scale."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from mmattn.maps.geometry import Placement
from mmattn.maps.heads import map_cell, numbers_below
from mmattn.maps.look import LOOK, Look
from mmattn.maps.overlay import Drawn, overlays, resized
from mmattn.maps.page import MARGIN, balanced, colour_bar, framed, page, tiled
from mmattn.maps.scale import Scale, explained, scales
from mmattn.maps.text import shortened, wrapped, write

TIGHT = 10  # pixels between the cells of a row


class Side(NamedTuple):
    """One side of a comparison: its name, its image [H, W, 3] uint8 and its maps [W, h, w]."""

    name: str
    image: np.ndarray
    maps: np.ndarray
    placement: Placement | None = None


def comparison(
    sides: Sequence[Side],
    words: Sequence[str],
    *,
    title: str = "",
    difference: bool = False,
    signed: bool = False,
    vmax: float | None = None,
    look: Look = LOOK,
    cell: int = 128,
    width: int = 1280,
) -> np.ndarray:
    """Draw a row of maps for each side, words above each other, all maps on one scale.

    Every side has one map for each of the `words`; images and grids may differ. The scale ends at
    `vmax`, by default at the largest of all maps' own ends. `difference` adds a row: the second
    side minus the first on the second's image, on a scale around 0; both must have the same grid.
    Words stand in blocks of at most `width` pixels. Returns uint8 RGB. Raises `ValueError` where
    sizes do not fit, and for negative values unless `signed`.
    """
    maps = [np.asarray(side.maps, dtype=np.float64) for side in sides]
    _check(maps, words, difference)
    end = max(scale.vmax for one in maps for scale in scales(one, "shared", signed))
    rule, cells = (end if vmax is None else vmax), [resized(side.image, cell) for side in sides]
    across = max(90, *(image.shape[1] for image in cells))
    rows = []
    for side, image, one in zip(sides, cells, maps, strict=True):
        drawn = overlays(image, one, rule, signed, side.placement, look)
        rows.append((_lead(Image.fromarray(image), [side.name], across, None, look), drawn))
    if difference:
        drawn = overlays(cells[1], maps[1] - maps[0], "shared", True, sides[1].placement, look)
        empty = Image.new("RGB", (across, cells[1].shape[0]), look.paper.sheet)
        names = [sides[1].name, f"− {sides[0].name}"]
        rows.append((_lead(empty, names, across, drawn[0].scale, look), drawn))
    body = _blocks(words, rows, Scale(rule, signed), across, width, look)
    header = [("", title, 19, True)] if title else []
    faded = any(side.placement is not None for side in sides)
    notes = [numbers_below(signed), *explained(rule, [Scale(rule, signed)], faded)]
    if difference:
        notes.append("last row: the second minus the first, its least and its largest value below")
    return page(header, body, notes, look.paper)


def _check(maps: list[np.ndarray], words: Sequence[str], difference: bool) -> None:
    if len(maps) < 2 or not words:
        raise ValueError(
            f"a comparison has at least two sides and one word, got {len(maps)} and {len(words)}"
        )
    for one in maps:
        if one.ndim != 3 or len(one) != len(words):
            raise ValueError(f"{len(words)} words need maps [{len(words)}, h, w], got {one.shape}")
    if difference and (len(maps) != 2 or maps[0].shape != maps[1].shape):
        shapes = ", ".join(str(one.shape) for one in maps)
        raise ValueError(
            f"a difference is between two sides with the same grid, got maps {shapes}: pass "
            f"difference=False"
        )


def _blocks(
    words: Sequence[str],
    rows: Sequence[tuple[Image.Image, list[Drawn]]],
    scale: Scale,
    across: int,
    width: int,
    look: Look,
) -> Image.Image:
    """Blocks of as many words as fit: a heading for each, then the rows."""
    fitting = (width - 2 * MARGIN + TIGHT) // (across + TIGHT) - 1
    count = balanced(len(words), fitting)
    blocks = []
    for start in range(0, len(words), count):
        chosen = range(start, min(start + count, len(words)))
        corner = Image.new("RGB", (across, 28), look.paper.sheet)
        colour_bar(corner, 2, look, scale)
        cells = [corner, *(_heading(words[i], across, look) for i in chosen)]
        for lead, drawn in rows:
            cells += [lead, *(map_cell(drawn[i], across, look) for i in chosen)]
        blocks.append(tiled(cells, len(chosen) + 1, look.paper, gap=TIGHT))
    return tiled(blocks, 1, look.paper, gap=28)


def _heading(word: str, width: int, look: Look) -> Image.Image:
    """A word over its column."""
    cell = Image.new("RGB", (width, 28), look.paper.sheet)
    text = shortened(word, 15, True, width)
    write(cell, (width // 2, 23), text, 15, look.paper.ink, bold=True, anchor="ms")
    return cell


def _lead(
    image: Image.Image, names: Sequence[str], width: int, scale: Scale | None, look: Look
) -> Image.Image:
    """What a row starts with: its image, or its own scale where it has one, with its name."""
    lines = [line for name in names for line in wrapped(name, 12, True, width)[:2]]
    cell = framed(image, width, 3 + 16 * len(lines), look.paper)
    top = image.height + 2
    if scale is not None:
        top = max(0, image.height // 2 - 16 * len(lines))
        colour_bar(cell, top + 16 * len(lines) + 4, look, scale)
    for i, line in enumerate(lines):
        at = (width // 2, top + 16 * i)
        write(cell, at, line, 12, look.paper.ink, bold=True, anchor="ma")
    return cell
