"""A map over its image: heat on the picture set back to grey."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from PIL import Image

from mmattn.maps.colours import as_image, blends, faded, grey, hatched
from mmattn.maps.geometry import Mode, Placement, Size, checked_map
from mmattn.maps.look import LOOK, Look
from mmattn.maps.png import checked_picture
from mmattn.maps.scale import Reading, Scale, ScaleRule, number, read, scales
from mmattn.maps.text import length, write


class Overlay(NamedTuple):
    """A picture [H, W, 3] uint8, the scale of its colours, and the map in numbers."""

    picture: np.ndarray
    scale: Scale
    reading: Reading

    @property
    def caption(self) -> str:
        """Scale and numbers in words."""
        numbers = " ".join(self.reading.parts(self.scale.signed))
        return f"scale {number(self.scale.vmin)} to {number(self.scale.vmax)}, {numbers}"


class Drawn(NamedTuple):
    """One of several overlays, as a Pillow image."""

    picture: Image.Image
    scale: Scale
    reading: Reading


def overlay(
    image: np.ndarray,
    map: np.ndarray,
    *,
    signed: bool = False,
    vmax: float | None = None,
    placement: Placement | None = None,
    look: Look = LOOK,
) -> Overlay:
    """Draw a map over its image, which is set back to grey. Neither input is modified.

    `image` is uint8 RGB [H, W, 3]. `map` is [h, w], one value per patch, or [H, W], one per pixel;
    with a `placement` it lies on the part of the image that the network saw, and the rest fades.
    Opacity and colour rise from 0 to `vmax`: by default the map's peak, but at least four times
    its mean, so that a flat map looks flat. Give one `vmax` to pictures that shall be compared.
    `signed` maps (differences, gradient times attention) have a diverging scale from -`vmax` to
    `vmax`. Raises `ValueError` for any other image or map, and for negative values where the map is
    not `signed`.
    """
    image, map = checked_picture(image), checked_map(map)
    rule = "each" if vmax is None else vmax
    scale = scales(map[None], rule, signed)
    (pixels,) = _pixels(image, map[None], scale, placement, look)
    return Overlay(np.asarray(as_image(pixels)), scale[0], read(map))


def overlays(
    image: np.ndarray,
    maps: np.ndarray,
    rule: ScaleRule,
    signed: bool,
    placement: Placement | None,
    look: Look,
) -> list[Drawn]:
    """Draw maps [N, h, w] over the same image, as `overlay` does but all in one go.

    A map that is not finite is drawn as stripes that say so. Raises `ValueError` as `scales` does.
    """
    maps = np.asarray(maps, dtype=np.float64)
    finite = np.asarray(np.isfinite(maps).all((1, 2)))
    used = scales(maps, rule, signed)
    chosen = [scale for scale, is_finite in zip(used, finite, strict=True) if is_finite]
    pixels = iter(_pixels(image, maps[finite], chosen, placement, look) if chosen else ())
    stripes = not_drawn(image.shape[1], image.shape[0], "not finite", look)
    return [
        Drawn(as_image(next(pixels)) if is_finite else stripes, scale, read(map))
        for map, scale, is_finite in zip(maps, used, finite, strict=True)
    ]


def resized(image: np.ndarray, cell: int) -> np.ndarray:
    """Return the image with the area of a square of `cell` pixels; small ones by a whole factor."""
    height, width = checked_picture(image).shape[:2]
    factor = cell / (height * width) ** 0.5
    if factor >= 2:
        return image.repeat(round(factor), axis=0).repeat(round(factor), axis=1)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def _pixels(
    image: np.ndarray,
    maps: np.ndarray,
    used: list[Scale],
    placement: Placement | None,
    look: Look,
) -> np.ndarray:
    """Finite maps [N, h, w] over the image [H, W, 3], as RGBX: uint32 [N, H, W]."""
    size = (image.shape[0], image.shape[1])
    placed = (placement or Placement.resize(size)).scaled(size)
    base, signed = grey(image), used[0].signed
    # Patches are scaled, not pixels: a pixel's weights sum to 1.
    heat = np.stack([scale.levels(map) for map, scale in zip(maps, used, strict=True)])
    rows, columns = _axes(placed, (maps.shape[1], maps.shape[2]), look.mode)
    places = rows @ heat @ columns
    places = np.clip(places, 0, 255, out=places).astype(np.intp)
    places <<= 8
    places |= base
    pixels = blends(look.colours(signed), look.alpha, signed).take(places)
    seen = _seen(placed)
    return pixels if seen.all() else np.where(seen, pixels, faded(base, look.paper.sheet))


@lru_cache(maxsize=32)
def _axes(placed: Placement, grid: Size, mode: Mode) -> tuple[np.ndarray, np.ndarray]:
    """How much each row [H, h] and column [w, W] of patches counts for each of pixels."""
    rows, columns = placed.weights(grid, mode)
    return rows, columns.T.copy()


def _seen(placed: Placement) -> np.ndarray:
    """Which pixels [H, W] have a centre that the network saw."""
    (height, width), (top, left, bottom, right) = placed.size, placed.box
    rows, columns = np.arange(height) + 0.5, np.arange(width) + 0.5
    return ((rows >= top) & (rows < bottom))[:, None] & ((columns >= left) & (columns < right))


@lru_cache(maxsize=16)
def not_drawn(width: int, height: int, words: str, look: Look) -> Image.Image:
    """Return stripes with words that say why, where they fit; shared, so do not draw on it."""
    paper = look.paper
    picture = hatched(width, height, paper.blank, paper.sheet).copy()
    across = round(length(words, 12, False)) + 12
    if across <= width and height >= 20:
        picture.paste(paper.sheet, _centred(width, height, across, 20))
        write(picture, (width // 2, height // 2), words, 12, paper.ink, anchor="mm")
    return picture


def _centred(width: int, height: int, across: int, down: int) -> tuple[int, int, int, int]:
    """The box of a size in the middle of a picture."""
    left, top = (width - across) // 2, (height - down) // 2
    return left, top, left + across, top + down
