"""Words in lines: bars as long as what they say, whatever the theme."""

import numpy as np
import pytest

from mmattn.maps.look import Look
from mmattn.maps.word_flow import MOST_LINES, TINT, tinted, word_flow

LOOK = Look()


def bars(worth, top, words=None):
    """The pixels of each word's bar, in order; the words are too long to share a line."""
    words = words or ["internationalisation"] * len(worth)
    picture = np.asarray(word_flow(words, np.array(worth), top, 220, LOOK).picture)
    lines = picture.reshape(len(words), -1, *picture.shape[1:])
    return [(line == TINT).all(-1).any(0).sum() for line in lines]


def test_a_bar_is_as_long_as_its_share_of_the_top():
    full, half, none = bars([0.4, 0.2, 0.0], 0.4)
    assert half == pytest.approx(full / 2, abs=1)
    assert none == 0
    assert bars([0.4], 0.8)[0] == half


def test_nothing_counts_where_all_is_zero_and_no_number_has_no_bar():
    assert bars([0.0, 0.0], 0.0) == [0, 0]
    assert bars([np.nan, 0.2], 0.2)[0] == 0


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_ink_stays_readable_on_every_tint(theme):
    """WCAG 2.2: a contrast of at least 4.5 to 1."""

    def luminance(colour):
        linear = [(c / 255 + 0.055) ** 2.4 / 1.055**2.4 for c in colour]
        return np.dot((0.2126, 0.7152, 0.0722), linear)

    paper = Look(theme=theme).paper
    for share in np.linspace(0, 1, 11):
        a, b = sorted([luminance(paper.ink), luminance(tinted(share, paper))])
        assert (b + 0.05) / (a + 0.05) >= 4.5, share


def test_a_long_text_is_cut_and_what_is_not_seen_is_counted():
    flow = word_flow(["word"] * 1000, np.ones(1000), 1.0, 220, LOOK)
    shown = word_flow(
        ["word"] * (1000 - flow.left_out), np.ones(1000 - flow.left_out), 1.0, 220, LOOK
    )
    assert 0 < flow.left_out < 1000
    assert shown.left_out == 0
    assert flow.picture.height == MOST_LINES * 34
    np.testing.assert_array_equal(flow.picture, shown.picture)


def test_a_word_wider_than_the_picture_is_cut_to_it():
    assert word_flow(["w" * 500], np.ones(1), 1.0, 100, LOOK).picture.width == 100
    assert word_flow([], np.ones(0), 1.0, 100, LOOK).left_out == 0


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="1 words need as many values, got 2"):
        word_flow(["a"], np.ones(2), 1.0, 100, LOOK)
    with pytest.raises(ValueError, match="a word counts -1"):
        word_flow(["a"], -np.ones(1), 1.0, 100, LOOK)
