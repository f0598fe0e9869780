import numpy as np
import pytest

from mmattn.figures.sheet import counted, drawn, labels, new_figure


def test_a_picture_is_rgb_bytes():
    picture = drawn(new_figure(2.0, 1.0))
    assert picture.dtype == np.uint8
    assert picture.shape == (110, 220, 3)
    assert picture.flags.c_contiguous
    assert (picture == 255).all()


def test_short_names_stay():
    assert labels({3: "cat", 5: "B-PER", 9: "$5 & $6", 1: "Ünïcödé"}) == [
        "cat",
        "B-PER",
        "$5 & $6",
        "Ünïcödé",
    ]


def test_long_names_keep_both_ends():
    names = {i: f"a very long name that would take all of the page, {i}" for i in range(2)}
    assert labels(names, 21) == ["a very lon…he page, 0", "a very lon…he page, 1"]
    assert all(len(label) <= 21 for label in labels(names, 21))


def test_names_that_would_look_the_same_get_their_numbers():
    names = {12: "the same beginning, 12, the same end", 90: "the same beginning, 90, the same end"}
    assert labels(names, 15) == ["the sam…ame end #12", "the sam…ame end #90"]
    assert labels({0: "x", 1: " x ", 2: "y"}) == ["x #0", "x #1", "y"]


@pytest.mark.parametrize(
    ("name", "label"),
    [("dog\nbark", "dog bark"), ("", "#7"), (" \t", "#7"), ("北京", "□□ #7"), ("a北", "a□")],
)
def test_what_cannot_be_drawn_is_shown_as_such(name, label):
    assert labels({7: name}) == [label]


def test_counts_have_a_thing():
    assert counted(1, "example") == "1 example"
    assert counted(2345, "example") == "2,345 examples"
