"""Colours of heat, as tables: what a level of heat looks like, alone and over a grey picture.

A level is a whole number from 0 to 255. On a scale around 0, level 127 is 0, and 0 and 254 are the
ends (`Scale.levels`).
"""

from functools import lru_cache

import matplotlib
import numpy as np
from PIL import Image

from mmattn.maps.look import Colour

LEVELS = 256
# Opacity where there is no attention: enough to set the picture back, not to hide it.
VEIL = 0.2
# How much faster opacity rises on a scale around 0.
STEEP = 1.5


@lru_cache(maxsize=16)
def palette(colormap: str, signed: bool) -> np.ndarray:
    """Return uint8 [256, 3]: the colours of a matplotlib colour map by level; read-only."""
    table = np.rint(_colours(colormap, signed)).astype(np.uint8)
    table.setflags(write=False)  # it is shared
    return table


@lru_cache(maxsize=16)
def blends(colormap: str, alpha: float, signed: bool) -> np.ndarray:
    """Return uint32 [256 * 256]: the pixel RGBX of heat level i over grey g, at i * 256 + g.

    Heat lies on the grey with an opacity that rises with its strength from `VEIL` to `alpha`. On a
    scale around 0 the colours near 0 are almost white. There opacity rises from 0, faster, and the
    grey is darkened by `VEIL` instead: without attention a picture looks the same on both scales,
    and a little attention can be seen on both. One look-up a pixel replaces eight passes over
    floats; it is within one level of them.
    """
    base = np.arange(256)[:, None] * (1 - VEIL if signed else 1)
    opacity = _opacity(alpha, signed)[:, None, None]
    colour = _colours(colormap, signed)[:, None]
    table = np.full((LEVELS, 256, 4), 255, np.uint8)
    table[..., :3] = np.rint((1 - opacity) * base + opacity * colour)
    table.setflags(write=False)
    return table.view(np.uint32).ravel()


def grey(image: np.ndarray) -> np.ndarray:
    """Return a picture [H, W, 3] uint8 in grey, uint8 [H, W]: luma of ITU-R BT.601."""
    return np.asarray(Image.fromarray(image).convert("L"))


def faded(grey: np.ndarray, sheet: Colour) -> np.ndarray:
    """Return pixels RGBX, uint32 of the shape of `grey`: seven tenths of it gone into the sheet."""
    pixels = np.full((*grey.shape, 4), 255, np.uint8)
    pixels[..., :3] = np.rint(0.3 * grey[..., None] + 0.7 * np.array(sheet))
    return pixels.view(np.uint32)[..., 0]


def as_image(pixels: np.ndarray) -> Image.Image:
    """Return pixels RGBX, uint32 [H, W], as a Pillow image."""
    height, width = pixels.shape
    return Image.frombytes("RGB", (width, height), pixels.data, "raw", "RGBX")


@lru_cache(maxsize=64)
def ramp(width: int, height: int, colormap: str, signed: bool) -> Image.Image:
    """Return a colour bar, low to high; it is shared, so paste it and do not draw on it."""
    levels = np.linspace(0, 254 if signed else 255, width).round().astype(int)
    line = palette(colormap, signed)[levels]
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(line, (height, width, 3))))


@lru_cache(maxsize=64)
def hatched(width: int, height: int, dark: Colour, light: Colour) -> Image.Image:
    """Return slanted stripes, for what has no value; shared like `ramp`."""
    rows, columns = np.indices((height, width))
    stripes = ((rows + columns) // 4 % 2).astype(bool)[..., None]
    return Image.fromarray(np.where(stripes, *np.array([dark, light], np.uint8)))


def _colours(colormap: str, signed: bool) -> np.ndarray:
    """The colours [256, 3] by level, in 0 to 255."""
    places = np.minimum(np.arange(LEVELS) / 254, 1) if signed else np.arange(LEVELS)
    return matplotlib.colormaps[colormap](places)[:, :3] * 255


def _opacity(alpha: float, signed: bool) -> np.ndarray:
    """The opacity [256] of each level."""
    levels = np.arange(LEVELS)
    if signed:
        return alpha * np.minimum(STEEP * np.abs(levels - 127) / 127, 1)
    return VEIL + (alpha - VEIL) * levels / (LEVELS - 1)
