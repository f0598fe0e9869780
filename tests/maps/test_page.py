"""Cells lie in rows, text stays on the page, bars have their ends printed."""

import numpy as np
import pytest
from PIL import Image

from mmattn.maps.look import LOOK, Look
from mmattn.maps.page import GAP, MARGIN, balanced, colour_bar, framed, page, tiled
from mmattn.maps.scale import Scale


def block(width: int, height: int, colour: tuple[int, int, int] = (200, 0, 0)) -> Image.Image:
    return Image.new("RGB", (width, height), colour)


@pytest.mark.parametrize(
    ("cells", "fitting", "columns"), [(9, 6, 5), (6, 6, 6), (7, 6, 4), (1, 6, 1), (3, 0, 1)]
)
def test_rows_are_filled_evenly(cells, fitting, columns):
    assert balanced(cells, fitting) == columns


def test_cells_lie_in_rows_as_large_as_their_largest():
    colours = [(10 * i, 0, 0) for i in range(1, 6)]
    sizes = [(20, 10), (30, 15), (10, 10), (40, 5), (20, 20)]
    cells = [block(*size, colour) for size, colour in zip(sizes, colours, strict=True)]
    sheet = np.asarray(tiled(cells, 2, LOOK.paper, gap=4))
    assert sheet.shape == (15 + 4 + 10 + 4 + 20, 20 + 4 + 40, 3)
    corners = [(0, 0), (0, 24), (19, 0), (19, 24), (33, 0)]
    for (top, left), (width, height), colour in zip(corners, sizes, colours, strict=True):
        assert (sheet[top : top + height, left : left + width] == colour).all()
    painted = sum(width * height for width, height in sizes)
    assert np.count_nonzero((sheet != LOOK.paper.sheet).any(2)) == painted


def test_a_page_holds_header_body_and_small_print_in_that_order():
    body = block(700, 50)
    bare = page([], body, [], LOOK.paper)
    assert bare.shape == (50 + 2 * MARGIN, 700 + 2 * MARGIN, 3)
    full = page([("label", "title", 19, True)], body, ["note"], LOOK.paper)
    red = np.nonzero((full == (200, 0, 0)).all(2).any(1))[0]
    inked = np.nonzero((full != LOOK.paper.sheet).any(2).any(1))[0]
    assert inked.min() < red.min() - GAP
    assert inked.max() > red.max() + GAP


@pytest.mark.parametrize("text", ["a few words", "many words " * 30, "x" * 400, "two\nlines"])
def test_text_is_never_cut_at_the_margin(text):
    sheet = page([("label", text, 19, True)], block(40, 40), [text], LOOK.paper)
    blank = (sheet == LOOK.paper.sheet).all(2)
    assert blank[:, :MARGIN].all()
    assert blank[:, -MARGIN:].all()


def test_a_small_picture_with_little_text_has_a_small_page():
    assert page([], block(40, 40), ["note"], LOOK.paper).shape[1] == 40 + 2 * MARGIN


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_page_is_of_its_paper(theme):
    paper = Look(theme=theme).paper
    sheet = page([("", "title", 19, True)], framed(block(60, 20), 80, 10, paper), ["note"], paper)
    assert sheet.dtype == np.uint8
    assert (sheet[:MARGIN] == paper.sheet).all()
    body = np.nonzero((sheet == (200, 0, 0)).all(2).any(1))[0]
    assert (sheet[body[0], MARGIN : MARGIN + 10] == paper.sheet).all()  # the frame's border


def test_a_bar_prints_its_ends_and_the_middle_of_a_signed_one():
    def columns(scale: Scale) -> np.ndarray:
        cell = Image.new("RGB", (200, 25), LOOK.paper.sheet)
        colour_bar(cell, 0, LOOK, scale)
        return np.nonzero((np.asarray(cell)[9:] != LOOK.paper.sheet).any((0, 2)))[0]

    for scale in (Scale(0.5), Scale(0.5, True)):
        inked = columns(scale)
        assert inked.min() < 8
        assert inked.max() > 190
        assert ((inked > 90) & (inked < 110)).any() == scale.signed
