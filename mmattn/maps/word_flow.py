"""A text whose words are tinted and underlined by how much each of them counted."""

from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from PIL import Image

from mmattn.maps.look import Colour, Look, Paper
from mmattn.maps.text import length, one_line, shortened, write

SIZE, LINE, PAD, BAR = 15, 34, 4, 4  # font size, line, room at a word's sides, height of its bar
# Vermilion, which any colour vision tells from paper; ink stays readable on this much of it (WCAG
# 2.2 asks for a contrast of 4.5 to 1, and gets 5 or more on both papers).
TINT: Colour = (213, 94, 0)
OPACITY = 0.6
MOST_LINES = 12  # of a text; a longer one goes on unseen


class Flow(NamedTuple):
    """A drawn text, and how many of its words did not find room."""

    picture: Image.Image
    left_out: int


def word_flow(
    words: Sequence[str], worth: Float[np.ndarray, "W"], top: float, width: int, look: Look
) -> Flow:
    """Draw words in lines, each with a tint and a bar that say how much it counted.

    A bar is as long as its word where `worth` is `top`, and the tint then strongest; so amounts can
    be told without colour. A word whose worth is not finite is hatched below.

    Args:
        words: in their order.
        worth: of each word, at least 0.
        top: the upper end of the scale.
        width: of the picture, in pixels.
        look: gives the paper.

    Raises:
        ValueError: there are more or fewer values than words, or a value is negative.
    """
    if len(words) != len(worth):
        raise ValueError(f"{len(words)} words need as many values, got {len(worth)}")
    if (worth < 0).any():
        raise ValueError(f"a word counts {worth.min():.3g}: its bar cannot be shorter than none")
    shown = [shortened(word, SIZE, False, width - 2 * PAD) for word in map(one_line, words)]
    lines = _lines(shown, width)
    kept = lines[:MOST_LINES]
    picture = Image.new("RGB", (width, max(LINE * len(kept), 1)), look.paper.sheet)
    for row, line in enumerate(kept):
        for word, left in line:
            _chip(picture, (left, row * LINE), shown[word], float(worth[word]), top, look.paper)
    return Flow(picture, len(words) - sum(map(len, kept)))


def _lines(words: Sequence[str], width: int) -> list[list[tuple[int, int]]]:
    """Return the number and the left edge of each word, line by line."""
    lines: list[list[tuple[int, int]]] = []
    left = width + 1
    for number, word in enumerate(words):
        across = _across(word)
        if left + across > width:
            lines.append([])
            left = 0
        lines[-1].append((number, left))
        left += across + 1
    return lines


def _across(word: str) -> int:
    return ceil(length(word, SIZE, False)) + 2 * PAD


def _chip(
    sheet: Image.Image, at: tuple[int, int], word: str, worth: float, top: float, paper: Paper
) -> None:
    (left, above), across = at, _across(word)
    foot = above + LINE - BAR - 5
    if not np.isfinite(worth):
        sheet.paste(paper.faint, (left, foot, left + across, foot + 1))
        sheet.paste(paper.faint, (left, foot + BAR - 1, left + across, foot + BAR))
    elif top > 0 and worth > 0:
        share = min(worth / top, 1.0)
        sheet.paste(tinted(share, paper), (left, above + 1, left + across, foot))
        sheet.paste(TINT, (left, foot, left + max(1, round(share * across)), foot + BAR))
    write(sheet, (left + PAD, foot - 7), word, SIZE, paper.ink, anchor="ls")


def tinted(share: float, paper: Paper) -> Colour:
    """Return the paper's colour with a share, from 0 to 1, of the strongest tint."""
    opacity = OPACITY * share
    red, green, blue = (
        round((1 - opacity) * under + opacity * over)
        for under, over in zip(paper.sheet, TINT, strict=True)
    )
    return red, green, blue
