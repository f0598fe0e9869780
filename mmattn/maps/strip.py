"""A caption's attention as a strip: the image, then one overlay per word."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from mmattn.maps.geometry import Placement
from mmattn.maps.look import LOOK, Look
from mmattn.maps.overlay import Drawn, overlays, resized
from mmattn.maps.page import GAP, MARGIN, balanced, colour_bar, framed, page, tiled
from mmattn.maps.scale import ScaleRule, explained
from mmattn.maps.text import shortened, write, write_parts


def strip(
    image: np.ndarray,
    words: Sequence[str],
    maps: np.ndarray,
    *,
    caption: str = "",
    references: Sequence[str] = (),
    signed: bool = False,
    scale: ScaleRule = "each",
    placement: Placement | None = None,
    look: Look = LOOK,
    cell: int = 192,
    width: int = 1280,
) -> np.ndarray:
    """Draw the image, then one overlay per word, in rows of at most `width` pixels.

    `image` is uint8 RGB [H, W, 3]; `maps` is [W, h, w], one map for each of the `words`. The
    generated `caption` and its `references` stand above. Each word has its own scale, or all have
    one: `shared`, or a number that is its upper end; `signed` maps have a scale around 0. An image
    is drawn with the area of a square of `cell` pixels; a small one is enlarged by a whole factor,
    so that its pixels stay visible. Below each map stand its peak and mass; a map that is constant
    or not finite is called so. Raises `ValueError` where words and maps differ in number, and for
    negative values unless `signed`.
    """
    maps = np.asarray(maps, dtype=np.float64)
    if maps.ndim != 3 or len(words) != len(maps):
        raise ValueError(f"{len(words)} words need maps [{len(words)}, h, w], got {maps.shape}")
    base = resized(image, cell)
    cells = [_image_cell(base, image.shape[:2], maps.shape[1:], look)]
    drawn = overlays(base, maps, scale, signed, placement, look)
    cells += [_word_cell(one, word, look) for one, word in zip(drawn, words, strict=True)]
    fitting = (width - 2 * MARGIN + GAP) // (cells[0].width + GAP)
    body = tiled(cells, balanced(len(cells), fitting), look.paper)
    rows = [("generated", caption, 19, True)] if caption else []
    rows += [("reference", reference, 14, False) for reference in references]
    numbers = (
        "numbers: least and largest value, and the sum over all patches"
        if signed
        else "peak: most attention on one patch; mass: attention on all patches, the rest is on "
        "prefix tokens"
    )
    notes = explained(scale, [one.scale for one in drawn], placement is not None)
    return page(rows, body, [numbers, *notes], look.paper)


def _image_cell(
    base: np.ndarray, pixels: Sequence[int], grid: Sequence[int], look: Look
) -> Image.Image:
    """The image with its size and that of the patch grid."""
    cell = _captioned(Image.fromarray(base), "image", [f"{grid[1]} × {grid[0]} patches"], look)
    at = (cell.width, base.shape[0] + 31)
    write(cell, at, f"{pixels[1]} × {pixels[0]} px", 12, look.paper.faint, anchor="ra")
    return cell


def _word_cell(drawn: Drawn, word: str, look: Look) -> Image.Image:
    """A map over its colour bar with both ends printed, its word and its numbers."""
    cell = _captioned(drawn.picture, word, drawn.reading.parts(drawn.scale.signed), look)
    if not drawn.reading.bad:
        colour_bar(cell, drawn.picture.height + 5, look, drawn.scale)
    return cell


def _captioned(picture: Image.Image, word: str, numbers: Sequence[str], look: Look) -> Image.Image:
    """A picture with room for a colour bar, then a word and a line of numbers."""
    height, paper = picture.height, look.paper
    cell = framed(picture, max(picture.width, 150), 66, paper)
    write(cell, (0, height + 28), shortened(word, 16, True, cell.width), 16, paper.ink, bold=True)
    write_parts(cell, (0, height + 49), numbers, 12, paper.faint)
    return cell
