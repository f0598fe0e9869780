"""Pictures of attention: one map over its image, a strip of words, a grid of layers and heads.

Every picture is uint8 RGB [height, width, 3]. Colour alone would hide magnitude, so each map is
drawn on a printed scale that starts at 0, beside two numbers: *peak*, the largest share of
attention that one patch has, and *mass*, the share that all patches have together. What the mass
lacks to 1 went to prefix tokens (class, registers).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

from mmattn.maps.colours import as_image, blends, faded, grey, ramp
from mmattn.maps.geometry import (
    Mode,
    Placement,
    Size,
    _pixel_edges,
    _weights,
    checked_map,
    patch_maps,
)
from mmattn.maps.page import FAINT, GAP, INK, MARGIN, PAPER, balanced, page, tiled, write_ends
from mmattn.maps.png import checked_picture
from mmattn.maps.png import save_png as save_png
from mmattn.maps.text import shortened, write, write_parts

ScaleRule = Literal["each", "shared"] | float
# A scale spans at least this many times the map's mean: what is flat looks flat.
FLAT = 4.0


@dataclass(frozen=True)
class Look:
    """How maps are drawn: interpolation, opacity at the top of the scale, matplotlib colour map."""

    mode: Mode = "bicubic"
    alpha: float = 0.8
    colormap: str = "inferno"


LOOK = Look()


class Scale(NamedTuple):
    """What the colours mean, vmin to vmax, and the map's peak and mass on patches."""

    vmin: float
    vmax: float
    peak: float
    mass: float

    @property
    def caption(self) -> str:
        """The scale in words."""
        return f"scale {number(self.vmin)} to {number(self.vmax)}, {' '.join(self.numbers)}"

    @property
    def numbers(self) -> tuple[str, str]:
        """Peak and mass in words."""
        return f"peak {number(self.peak)},", f"mass {number(self.mass)}"


class Overlay(NamedTuple):
    """A picture [H, W, 3] uint8 and the scale of its colours."""

    picture: np.ndarray
    scale: Scale


def overlay(
    image: np.ndarray,
    map: np.ndarray,
    *,
    vmax: float | None = None,
    placement: Placement | None = None,
    look: Look = LOOK,
) -> Overlay:
    """Draw a map over its image, which is set back to grey. Neither input is modified.

    `image` is uint8 RGB [H, W, 3]. `map` is [h, w], one value per patch, or [H, W], one per pixel;
    with a `placement` it lies on the part of the image that the network saw, and the rest fades.
    Opacity and colour rise from 0 to `vmax`: by default the map's peak, but at least four times
    its mean, so that a flat map looks flat. Give one `vmax` to pictures that shall be compared.
    Raises `ValueError` for any other image or map.
    """
    drawn = _overlays(checked_picture(image), [map], vmax, placement, look)[0]
    return Overlay(np.asarray(drawn.picture), drawn.scale)


def strip(
    image: np.ndarray,
    words: Sequence[str],
    maps: np.ndarray,
    *,
    caption: str = "",
    references: Sequence[str] = (),
    scale: ScaleRule = "each",
    placement: Placement | None = None,
    look: Look = LOOK,
    cell: int = 192,
    width: int = 1280,
) -> np.ndarray:
    """Draw the image, then one overlay per word, in rows of at most `width` pixels.

    `image` is uint8 RGB [H, W, 3]; `maps` is [W, h, w], one map for each of the `words`. The
    generated `caption` and its `references` stand above. Each word has its own scale, or all have
    one: `shared`, or a number that is its upper end. An image is drawn with the area of a square
    of `cell` pixels; a small one is enlarged by a whole factor, so that its pixels stay visible.
    Raises `ValueError` where words and maps differ in number, and as `overlay` does.
    """
    maps = np.asarray(maps)
    if maps.ndim != 3 or len(words) != len(maps):
        raise ValueError(f"{len(words)} words need maps [{len(words)}, h, w], got {maps.shape}")
    base = _resized(image, cell)
    vmax = _common_vmax(maps, scale)
    cells = [_image_cell(base, image.shape[:2], maps.shape[1:])]
    drawn = _overlays(base, maps, vmax, placement, look)
    cells += [_word_cell(one, word, look) for one, word in zip(drawn, words, strict=True)]
    fitting = (width - 2 * MARGIN + GAP) // (cells[0].width + GAP)
    body = tiled(cells, balanced(len(cells), fitting))
    rows = [("generated", caption, 19, True)] if caption else []
    rows += [("reference", reference, 14, False) for reference in references]
    return page(rows, body, _notes(vmax, placement))


def layer_head_grid(
    image: np.ndarray,
    attention: np.ndarray,
    grid: Size,
    *,
    prefix: int = 0,
    title: str = "",
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    scale: ScaleRule = "each",
    placement: Placement | None = None,
    look: Look = LOOK,
    cell: int = 96,
) -> np.ndarray:
    """Draw one token's attention in every layer (rows) and head (columns), with labelled axes.

    `attention` is [L, H, P + S]: P = `prefix` tokens, then the patches of `grid` = (rows, columns).
    `layers` and `heads` are the numbers of those that were recorded, by default 0, 1, 2 …. Under
    each map stand its peak and mass; scales are those of `strip`. Raises `ValueError` where the
    sizes do not fit, and as `overlay` does.
    """
    attention = np.asarray(attention)
    layers = range(attention.shape[0]) if layers is None else layers
    heads = range(attention.shape[1]) if heads is None else heads
    if attention.ndim != 3 or attention.shape[:2] != (len(layers), len(heads)):
        raise ValueError(
            f"{len(layers)} layers and {len(heads)} heads need attention "
            f"[{len(layers)}, {len(heads)}, keys], got {attention.shape}"
        )
    maps = patch_maps(attention, grid, prefix)
    base = _resized(image, cell)
    vmax = _common_vmax(maps.reshape(-1, *grid), scale)
    side = max(base.shape[1], 80)
    cells = [_corner_cell(base, side, vmax, look)]
    cells += [_axis_cell(f"head {head}", side, cells[0].height, "ms") for head in heads]
    drawn = iter(_overlays(base, maps.reshape(-1, *grid), vmax, placement, look))
    for layer in layers:
        cells.append(_axis_cell(f"layer {layer}", side, base.shape[0], "rm"))
        cells += [_head_cell(next(drawn), side) for _ in heads]
    header = [("", title, 19, True)] if title else []
    notes = ["below each map: its peak, its mass", *_notes(vmax, placement)]
    return page(header, tiled(cells, len(heads) + 1, gap=10), notes)


class _Drawn(NamedTuple):
    """What `Overlay` is, as a Pillow image."""

    picture: Image.Image
    scale: Scale


def _overlays(
    image: np.ndarray,
    maps: Sequence[np.ndarray] | np.ndarray,
    vmax: float | None,
    placement: Placement | None,
    look: Look,
) -> list[_Drawn]:
    """Draw N maps of one size over the same image, all in one go; else as `overlay`."""
    if not len(maps):
        return []
    checked = np.stack([checked_map(map) for map in maps])
    scales = [_scale(map, vmax) for map in checked]
    size = (image.shape[0], image.shape[1])
    placed = (placement or Placement.resize(size)).scaled(size)
    levels = _levels(checked, scales, placed, look.mode)
    levels <<= 8
    base = grey(image)
    levels |= base
    pixels = blends(look.colormap, look.alpha).take(levels)
    seen = _seen(placed)
    if not seen.all():
        pixels = np.where(seen, pixels, faded(base))
    return [_Drawn(as_image(one), scale) for one, scale in zip(pixels, scales, strict=True)]


def _levels(maps: np.ndarray, scales: list[Scale], placed: Placement, mode: Mode) -> np.ndarray:
    """Lay maps [N, h, w] on the image's pixels: their levels of heat 0 to 255, int [N, H, W]."""
    low = np.array([scale.vmin for scale in scales])[:, None, None]
    span = np.array([(scale.vmax - scale.vmin) or 1.0 for scale in scales])[:, None, None]
    # Patches are scaled, not pixels: a pixel's weights sum to 1. The hair of slack keeps a map that
    # is flat at the border of two levels from flickering between them.
    heat = (maps - low) * (256 / span) + 1e-9
    rows, columns = _axes(placed, (maps.shape[1], maps.shape[2]), mode)
    pixels = rows @ heat @ columns
    return np.clip(pixels, 0, 255, out=pixels).astype(np.intp)


@lru_cache(maxsize=32)
def _axes(placed: Placement, grid: Size, mode: Mode) -> tuple[np.ndarray, np.ndarray]:
    """How much each row [H, h] and column [w, W] of patches counts for each of pixels."""
    (height, width), (top, left, bottom, right) = placed.size, placed.box
    rows = _weights(_pixel_edges(height, top, bottom), grid[0], mode)
    columns = _weights(_pixel_edges(width, left, right), grid[1], mode)
    return rows, columns.T.copy()


def _seen(placed: Placement) -> np.ndarray:
    """Which pixels [H, W] have a centre that the network saw."""
    (height, width), (top, left, bottom, right) = placed.size, placed.box
    rows, columns = np.arange(height) + 0.5, np.arange(width) + 0.5
    return ((rows >= top) & (rows < bottom))[:, None] & ((columns >= left) & (columns < right))


def _scale(map: np.ndarray, vmax: float | None) -> Scale:
    """The scale of one map; `vmax` None is the map's own."""
    peak, mean = float(map.max()), float(map.mean())
    vmax = max(0.0, peak, FLAT * mean) if vmax is None else float(vmax)
    if not 0 <= vmax < float("inf"):
        raise ValueError(f"the upper end of a scale is finite and at least 0, got vmax={vmax}")
    return Scale(min(0.0, float(map.min())), vmax, peak, float(map.sum()))


def _common_vmax(maps: np.ndarray, rule: ScaleRule) -> float | None:
    """The upper end that all maps [N, h, w] share, or None where each has its own."""
    if rule == "each":
        return None
    if rule == "shared":
        return max((_scale(checked_map(map), None).vmax for map in maps), default=None)
    if isinstance(rule, str):
        raise ValueError(f"scale is 'each', 'shared' or a number, not {rule!r}")
    return rule


def _resized(image: np.ndarray, cell: int) -> np.ndarray:
    """The image with the area of a square of `cell` pixels; small ones by a whole factor."""
    height, width = checked_picture(image).shape[:2]
    factor = cell / (height * width) ** 0.5
    if factor >= 2:
        return image.repeat(round(factor), axis=0).repeat(round(factor), axis=1)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def _image_cell(base: np.ndarray, pixels: Sequence[int], grid: Sequence[int]) -> Image.Image:
    cell = _captioned(Image.fromarray(base), "image", [f"{grid[1]} \u00d7 {grid[0]} patches"])
    at = (cell.width, base.shape[0] + 31)
    write(cell, at, f"{pixels[1]} \u00d7 {pixels[0]} px", 12, FAINT, anchor="ra")
    return cell


def _word_cell(drawn: _Drawn, word: str, look: Look) -> Image.Image:
    """A map over its colour bar with both ends printed, its word, its peak and mass."""
    cell = _captioned(drawn.picture, word, drawn.scale.numbers)
    top = drawn.picture.height + 5
    cell.paste(ramp(cell.width, 6, look.colormap), (0, top))
    write_ends(cell, top + 9, number(drawn.scale.vmin), number(drawn.scale.vmax))
    return cell


def _captioned(picture: Image.Image, word: str, numbers: Sequence[str]) -> Image.Image:
    """A picture with room for a colour bar, then a word and a line of numbers."""
    height = picture.height
    cell = _framed(picture, max(picture.width, 150), 66)
    write(cell, (0, height + 28), shortened(word, 16, cell.width), 16, INK, bold=True)
    write_parts(cell, (0, height + 49), numbers, 12, FAINT)
    return cell


def _head_cell(drawn: _Drawn, width: int) -> Image.Image:
    """A map with its peak and mass below."""
    cell = _framed(drawn.picture, width, 17)
    foot, middle = cell.height - 14, width // 2
    write(cell, (middle, foot), f"{number(drawn.scale.peak)},", 11, FAINT, anchor="ra")
    write(cell, (middle + 4, foot), number(drawn.scale.mass), 11, FAINT)
    return cell


def _corner_cell(base: np.ndarray, width: int, vmax: float | None, look: Look) -> Image.Image:
    """The image over the colour bar of a grid."""
    cell = _framed(Image.fromarray(base), width, 28)
    cell.paste(ramp(width, 6, look.colormap), (0, cell.height - 23))
    write_ends(cell, cell.height - 14, "0", "peak" if vmax is None else number(vmax))
    return cell


def _axis_cell(text: str, width: int, height: int, anchor: Literal["ms", "rm"]) -> Image.Image:
    """A label in a cell: at the foot for a column of a grid, at the right for a row."""
    cell = Image.new("RGB", (width, height), PAPER)
    at = (width // 2, height - 2) if anchor == "ms" else (width - 8, height // 2)
    write(cell, at, text, 13, INK, anchor=anchor)
    return cell


def _framed(picture: Image.Image, width: int, below: int) -> Image.Image:
    """A picture in the middle of a cell of some width, with room below."""
    cell = Image.new("RGB", (width, picture.height + below), PAPER)
    cell.paste(picture, ((width - picture.width) // 2, 0))
    return cell


def _notes(vmax: float | None, placement: Placement | None) -> list[str]:
    """What the numbers and colours mean, in small print."""
    notes = [
        "peak: most attention on one patch; mass: attention on all patches, the rest is on prefix "
        "tokens",
        f"colours: each map from 0 to its own peak, or to {FLAT:g} times its mean if that is more"
        if vmax is None
        else f"colours: every map from 0 to {number(vmax)}",
    ]
    return notes if placement is None else [*notes, "pale: what the network did not see"]


def number(value: float) -> str:
    """Two significant digits; zero as a bare 0."""
    return f"{value:#.2g}" if value else "0"
