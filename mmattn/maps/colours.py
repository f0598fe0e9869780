"""Colours of heat, as tables: what a level of heat looks like, alone and over a grey picture."""

from functools import lru_cache

import matplotlib
import numpy as np
from PIL import Image

# Matplotlib's maps have as many colours.
LEVELS = 256
# Opacity where there is no attention: enough to set the picture back, not to hide it.
VEIL = 0.2


@lru_cache(maxsize=16)
def palette(colormap: str) -> np.ndarray:
    """Return uint8 [256, 3]: the colours of a matplotlib colour map, low to high."""
    return matplotlib.colormaps[colormap](np.arange(LEVELS), bytes=True)[:, :3]


@lru_cache(maxsize=16)
def blends(colormap: str, alpha: float) -> np.ndarray:
    """Return uint32 [256 * 256]: the pixel RGBX of heat level i over grey g, at i * 256 + g.

    Heat lies on the grey with an opacity that rises from `VEIL` to `alpha`. One look-up a pixel
    replaces eight passes over floats; it is within one level of them.
    """
    heat = np.linspace(0, 1, LEVELS)[:, None, None]
    colour = matplotlib.colormaps[colormap](np.arange(LEVELS))[:, None, :3] * 255
    opacity = VEIL + (alpha - VEIL) * heat
    table = np.full((LEVELS, 256, 4), 255, np.uint8)
    table[..., :3] = np.rint((1 - opacity) * np.arange(256)[:, None] + opacity * colour)
    return table.view(np.uint32).ravel()


def grey(image: np.ndarray) -> np.ndarray:
    """Return a picture [H, W, 3] uint8 in grey, uint8 [H, W]: luma of ITU-R BT.601."""
    return np.asarray(Image.fromarray(image).convert("L"))


def faded(grey: np.ndarray) -> np.ndarray:
    """Return pixels RGBX, uint32 of the shape of `grey`: what the network did not see, pale."""
    pixels = np.repeat(np.rint(0.3 * grey + 178).astype(np.uint8)[..., None], 4, axis=-1)
    return pixels.view(np.uint32)[..., 0]


def as_image(pixels: np.ndarray) -> Image.Image:
    """Return pixels RGBX, uint32 [H, W], as a Pillow image."""
    height, width = pixels.shape
    return Image.frombytes("RGB", (width, height), pixels.data, "raw", "RGBX")


@lru_cache(maxsize=64)
def ramp(width: int, height: int, colormap: str) -> Image.Image:
    """Return a colour bar, low to high; it is shared, so paste it and do not draw on it."""
    line = palette(colormap)[np.linspace(0, LEVELS - 1e-6, width).astype(int)]
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(line, (height, width, 3))))
