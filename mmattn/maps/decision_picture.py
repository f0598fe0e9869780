"""One decision of a classifier as a picture: what in the images and the text argued for a class."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from mmattn.maps.geometry import Placement
from mmattn.maps.look import LOOK, Look
from mmattn.maps.overlay import not_drawn, overlays, resized
from mmattn.maps.page import GAP, TEXT, Line, balanced, colour_bar, framed, page, tiled
from mmattn.maps.scale import FLAT, number, scales
from mmattn.maps.text import shortened, write
from mmattn.maps.word_flow import word_flow

BELOW = 84  # pixels below a panel's picture: colour bar, name, role, numbers


@dataclass(frozen=True)
class Argument:
    """What argued for one class.

    Attributes:
        name: of the class.
        probability: what the model gives it.
        maps: the relevance of each patch of each of the M images, at least 0; None for a model
            that sees none.
        words: the relevance of each word of the text, at least 0; None for a model that reads none.
        role: what the class is here, such as "predicted", "right", or "predicted, right".
    """

    name: str
    probability: float
    maps: Float[np.ndarray, "M h w"] | None = None
    words: Float[np.ndarray, "W"] | None = None
    role: str = "predicted"


def decision_picture(
    images: Sequence[UInt8[np.ndarray, "_ _ 3"] | None],
    words: Sequence[str] | None,
    arguments: Sequence[Argument],
    *,
    title: str = "",
    truth: str | None = None,
    placements: Sequence[Placement | None] | None = None,
    scale: Literal["each", "shared"] = "each",
    look: Look = LOOK,
    cell: int = 192,
    width: int = 1280,
) -> UInt8[np.ndarray, "H W 3"]:
    """Draw what argued for one class or several: images under heat, words tinted and underlined.

    Beside each image stand its overlays, one a class; below the images the text, once a class.
    `page` wants at most `width` pixels beside its margins; an image has the area of a square of
    `cell` pixels. Colours and bars run from 0: an overlay to its class's largest value in any image
    or, if more, to four times the mean; a bar to its class's largest value of a word. With `shared`
    all classes have one end for images and one for words, for pictures that shall be compared.

    Args:
        images: the originals, uint8 RGB [height, width, 3], None for one that is missing; none for
            a model that sees none.
        words: of the text; empty where it is missing, None for a model that reads none.
        arguments: at least one class, the predicted one first.
        title: what the example is called.
        truth: the right answer in words, where none of the classes is it or all is to be said.
        placements: which part of each image the network saw; all of it if None.
        scale: see above.
        look: how it looks.

    Raises:
        ValueError: where images, words and their relevance differ in number, a relevance is
            negative, or there is no class.
    """
    _check(images, words, arguments, placements)
    placed = placements or [None] * len(images)
    tops, parts = _tops(arguments, scale), []
    heated = any(image is not None for image in images) and any(top is not None for top in tops)
    for m, (image, placement) in enumerate(zip(images, placed, strict=True)):
        cells = _panels(image, m, arguments, tops, placement, look, cell)
        parts.append(tiled(cells, balanced(len(cells), _fitting(cells, width)), look.paper))
    across = max([part.width for part in parts], default=min(TEXT, width))
    notes = _notes(heated, scale, any(map(_fades, placed)))
    if words is not None:
        flows, more = _flows(words, arguments, scale, max(across, min(TEXT, width)), look)
        parts, notes = parts + flows, notes + more
    body = tiled(parts, 1, look.paper) if parts else Image.new("RGB", (1, 1), look.paper.sheet)
    return page(_header(arguments, title, truth), body, notes, look.paper)


def _check(
    images: Sequence[np.ndarray | None],
    words: Sequence[str] | None,
    arguments: Sequence[Argument],
    placements: Sequence[Placement | None] | None,
) -> None:
    if not arguments:
        raise ValueError("a decision is for a class: give at least one argument")
    if placements is not None and len(placements) != len(images):
        raise ValueError(f"{len(images)} images need as many placements, got {len(placements)}")
    for argument in arguments:
        maps, worth = argument.maps, argument.words
        if maps is not None and len(maps) != len(images):
            raise ValueError(f"{argument.name!r} has {len(maps)} maps for {len(images)} images")
        if worth is not None and len(worth) != len(words or ()):
            raise ValueError(
                f"{argument.name!r} has the relevance of {len(worth)} words, and there are "
                f"{len(words or ())}"
            )


def _tops(arguments: Sequence[Argument], rule: Literal["each", "shared"]) -> list[float | None]:
    """Return where the colours of each class end: one end for all of its images."""
    ends = [
        None
        if argument.maps is None or not len(argument.maps)
        else scales(np.asarray(argument.maps, np.float64), "shared", False)[0].vmax
        for argument in arguments
    ]
    if rule == "shared":
        top = max((end for end in ends if end is not None), default=0.0)
        return [None if end is None else top for end in ends]
    return ends


def _panels(
    image: np.ndarray | None,
    m: int,
    arguments: Sequence[Argument],
    tops: Sequence[float | None],
    placement: Placement | None,
    look: Look,
    cell: int,
) -> list[Image.Image]:
    """Return the cells about an image: itself, and one overlay a class."""
    name = "image" if m == 0 else f"image {m + 1}"
    if image is None:
        return [_cell(not_drawn(cell, cell, "missing", look), name, "", (), look)]
    height, width = image.shape[:2] if placement is None else placement.size
    base, size = resized(image, cell), f"{width} × {height} px"
    cells = [_cell(Image.fromarray(base), name, "", (size,), look)]
    for argument, top in zip(arguments, tops, strict=True):
        if argument.maps is None or top is None:
            continue
        (drawn,) = overlays(base, argument.maps[m][None], top, False, placement, look)
        numbers = drawn.reading.parts(False)
        panel = _cell(drawn.picture, argument.name, argument.role, numbers, look)
        if not drawn.reading.bad:
            colour_bar(panel, drawn.picture.height + 5, look, drawn.scale)
        cells.append(panel)
    return cells


def _cell(
    picture: Image.Image, name: str, role: str, numbers: Sequence[str], look: Look
) -> Image.Image:
    """Return a picture with room for a colour bar, then a name, what it is, and numbers."""
    height, paper = picture.height, look.paper
    cell = framed(picture, max(picture.width, 150), BELOW, paper)
    write(cell, (0, height + 28), shortened(name, 16, True, cell.width), 16, paper.ink, bold=True)
    below = [line for line in (role, " ".join(numbers)) if line]
    for i, line in enumerate(below):
        text = shortened(line, 12, False, cell.width)
        write(cell, (0, height + 49 + 17 * i), text, 12, paper.faint)
    return cell


def _fitting(cells: Sequence[Image.Image], width: int) -> int:
    return (width + GAP) // (max(cell.width for cell in cells) + GAP)


def _flows(
    words: Sequence[str],
    arguments: Sequence[Argument],
    rule: Literal["each", "shared"],
    width: int,
    look: Look,
) -> tuple[list[Image.Image], list[str]]:
    """Return the text, once a class, and what is to be said of it in small print."""
    if not words:
        return [_labelled(None, "no text", look, width)], []
    given = [argument for argument in arguments if argument.words is not None]
    worths = [np.asarray(argument.words, np.float64) for argument in given]
    tops = [worth[np.isfinite(worth)].max(initial=0.0) for worth in worths]
    if rule == "shared":
        tops = [max(tops)] * len(tops)
    flows, left_out = [], 0
    for argument, worth, top in zip(given, worths, tops, strict=True):
        flow = word_flow(words, worth, float(top), width, look)
        total = worth[np.isfinite(worth)].sum()
        said = f"{argument.name}: largest {number(top)}, all words {number(total)}"
        flows.append(_labelled(flow.picture, said, look, width))
        left_out = flow.left_out
    notes = ["tint and bar of a word: its relevance, from 0 to the largest"]
    if left_out:
        notes.append(f"{left_out} further words of the text are not shown")
    return flows, notes


def _labelled(flow: Image.Image | None, text: str, look: Look, width: int) -> Image.Image:
    """Return a text below what is said of it."""
    sheet = Image.new("RGB", (width, 20 + (flow.height if flow else 0)), look.paper.sheet)
    write(sheet, (0, 2), shortened(text, 12, False, width), 12, look.paper.faint)
    if flow is not None:
        sheet.paste(flow, (0, 20))
    return sheet


def answer(argument: Argument) -> str:
    """Return a class with its probability, as a line."""
    return f"{argument.name} · {argument.probability:.3f}"


def decision_caption(arguments: Sequence[Argument], truth: str | None = None) -> str:
    """Return the header of a picture in one line, for a dashboard that scales and crops it."""
    lines = [f"{argument.role}: {answer(argument)}" for argument in arguments]
    return " | ".join(lines + ([f"truth: {truth}"] if truth is not None else []))


def _header(arguments: Sequence[Argument], title: str, truth: str | None) -> list[Line]:
    lines: list[Line] = [
        (
            argument.role,
            answer(argument),
            19 if i == 0 else 14,
            i == 0,
        )
        for i, argument in enumerate(arguments)
    ]
    lines += [("truth", truth, 14, False)] if truth is not None else []
    return lines + ([("example", title, 12, False)] if title else [])


def _fades(placement: Placement | None) -> bool:
    """Whether the network did not see all of an image."""
    if placement is None:
        return False
    (height, width), (top, left, bottom, right) = placement.size, placement.box
    return top > 0 or left > 0 or bottom < height or right < width


def _notes(drawn: bool, rule: Literal["each", "shared"], faded: bool) -> list[str]:
    notes = []
    if drawn:
        ends = "each class" if rule == "each" else "all classes together"
        notes = [
            f"colours: from 0 to the largest value of {ends}, or {FLAT:g} times the mean if more"
        ]
    return [*notes, "faded: what the network did not see"] if drawn and faded else notes
