"""Lines of text: the kept ones are those that Pillow renders, and broken ones fit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from mmattn.maps.text import _font, length, shortened, wrapped, write, write_parts

INK, PAPER = (28, 30, 34), (246, 247, 249)
LINES = [
    "dog",
    "e\u0302\u0301 ế",
    "naïve Ελληνικά кошка",
    "עברית العربية",
    "日本 \U0001f600",
    " ",
    "",
]


def sheet() -> Image.Image:
    return Image.new("RGB", (400, 60), PAPER)


@pytest.mark.parametrize("anchor", ["la", "ra", "ma", "ls", "ms", "rm"])
@pytest.mark.parametrize("text", LINES)
def test_a_kept_line_is_what_pillow_draws(text, anchor):
    plain = sheet()
    draw = ImageDraw.Draw(plain)
    draw.text((200, 30), " ".join(text.split()), INK, _font(16, True), anchor)
    for _ in range(2):  # rendered, then from what was kept
        kept = sheet()
        write(kept, (200, 30), text, 16, INK, bold=True, anchor=anchor)
        np.testing.assert_array_equal(np.asarray(kept), np.asarray(plain))


def test_two_colours_of_one_line_do_not_mix():
    for colour in (INK, (200, 0, 0)):
        drawn = sheet()
        write(drawn, (10, 10), "IIII", 30, colour, bold=True)
        assert np.asarray(drawn).reshape(-1, 3).tolist().count(list(colour)) > 50


def test_parts_of_a_line_stand_as_in_one_line():
    whole, parts = sheet(), sheet()
    write(whole, (3, 10), "peak 0.25, mass 0.98", 12, INK)
    write_parts(parts, (3, 10), ["peak 0.25,", "mass 0.98"], 12, INK)
    columns = [np.nonzero((np.asarray(s) != PAPER).any((0, 2)))[0] for s in (whole, parts)]
    assert abs(int(columns[0].max()) - int(columns[1].max())) <= 1
    assert columns[0].min() == columns[1].min()


@settings(max_examples=60)
@given(st.text(max_size=80), st.integers(20, 300))
def test_broken_lines_fit_and_lose_no_letter(text, width):
    lines = wrapped(text, 14, False, width)
    assert "".join("".join(lines).split()) == "".join(text.split())
    for line in lines:
        assert len(line) == 1 or length(line, 14, False) <= width


def test_lines_break_between_words():
    words = ["box", "drawings", "light", "vertical", "and", "right"]
    lines = wrapped(" ".join(words), 14, False, 120)
    assert len(lines) > 1
    assert [word for line in lines for word in line.split()] == words


def test_a_long_word_is_cut_and_says_so():
    cut = shortened("incomprehensibilities", 16, True, 90)
    assert cut.endswith("…")
    assert "incomprehensibilities".startswith(cut[:-1])
    assert length(cut, 16, True) <= 90
    assert shortened("word", 16, True, 90) == "word"
