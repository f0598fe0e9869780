"""One token's attention in every layer and head, as a grid with labelled axes."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from mmattn.maps.geometry import Placement, Size, patch_maps
from mmattn.maps.look import LOOK, Look
from mmattn.maps.overlay import Drawn, overlays, resized
from mmattn.maps.page import axis_cell, colour_bar, framed, page, tiled
from mmattn.maps.scale import Scale, ScaleRule, explained
from mmattn.maps.text import write_parts


def layer_head_grid(
    image: np.ndarray,
    attention: np.ndarray,
    grid: Size,
    *,
    prefix: int = 0,
    title: str = "",
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    signed: bool = False,
    scale: ScaleRule = "each",
    placement: Placement | None = None,
    look: Look = LOOK,
    cell: int = 96,
) -> np.ndarray:
    """Draw one token's attention in every layer (rows) and head (columns), with labelled axes.

    `attention` is [L, H, P + S]: P = `prefix` tokens, then the patches of `grid` = (rows, columns).
    `layers` and `heads` are the numbers of those that were recorded, by default 0, 1, 2 …. Under
    each map stand its peak and mass, or what is wrong with it; scales are those of `strip`. Raises
    `ValueError` where the sizes do not fit, and for negative values unless `signed`.
    """
    attention = np.asarray(attention)
    layers, heads = axes(attention, layers, heads, "attention", ", keys")
    maps = patch_maps(attention, grid, prefix).reshape(-1, *grid)
    base = resized(image, cell)
    drawn = overlays(base, maps, scale, signed, placement, look)
    side = max(base.shape[1], 106 if signed else 80)  # the width of the numbers
    bar = None if scale == "each" else drawn[0].scale
    cells = [_corner_cell(base, side, bar, signed, look)]
    cells += [axis_cell(f"head {head}", side, cells[0].height, "ms", look.paper) for head in heads]
    for i, layer in enumerate(layers):
        cells.append(axis_cell(f"layer {layer}", side, base.shape[0], "rm", look.paper))
        row = drawn[i * len(heads) : (i + 1) * len(heads)]
        cells += [map_cell(one, side, look) for one in row]
    header = [("", title, 19, True)] if title else []
    notes = explained(scale, [one.scale for one in drawn], placement is not None)
    body = tiled(cells, len(heads) + 1, look.paper, gap=10)
    return page(header, body, [numbers_below(signed), *notes], look.paper)


def axes(
    values: np.ndarray,
    layers: Sequence[int] | None,
    heads: Sequence[int] | None,
    name: str,
    rest: str,
) -> tuple[Sequence[int], Sequence[int]]:
    """Return the numbers of the layers and heads, 0, 1, 2 … where not given.

    `values` is [L, H] and `rest` further axes, written ", keys". Raises `ValueError` if it is not.
    """
    dims = 2 + rest.count(",")
    shape = values.shape if values.ndim == dims else (1, 1)
    layers = range(shape[0]) if layers is None else layers
    heads = range(shape[1]) if heads is None else heads
    if values.ndim != dims or shape[:2] != (len(layers), len(heads)) or 0 in shape:
        raise ValueError(
            f"{len(layers)} layers and {len(heads)} heads need {name} "
            f"[{len(layers)}, {len(heads)}{rest}] and at least one of each, got {values.shape}"
        )
    return layers, heads


def numbers_below(signed: bool) -> str:
    """What the numbers of a `map_cell` are, for the small print."""
    if signed:
        return "below each map: its least and its largest value"
    return (
        "below each map: its peak (most attention on one patch), its mass (attention on all "
        "patches; the rest is on prefix tokens)"
    )


def map_cell(drawn: Drawn, width: int, look: Look) -> Image.Image:
    """A map with its numbers below."""
    cell = framed(drawn.picture, width, 17, look.paper)
    parts, at = drawn.reading.short(drawn.scale.signed), (width // 2, cell.height - 14)
    write_parts(cell, at, parts, 11, look.paper.faint, centred=True)
    return cell


def _corner_cell(
    base: np.ndarray, width: int, scale: Scale | None, signed: bool, look: Look
) -> Image.Image:
    """The image over the colour bar of a grid; no scale where each map has its own."""
    cell = framed(Image.fromarray(base), width, 28, look.paper)
    ends = ("−peak" if signed else "0", "peak") if scale is None else None
    colour_bar(cell, cell.height - 23, look, scale or Scale(1.0, signed), ends)
    return cell
