"""A decision's picture: each image beside its overlays, the words below, one scale a class."""

import numpy as np
import pytest

from mmattn.maps.decision_picture import Argument, decision_caption, decision_picture
from mmattn.maps.geometry import Placement
from mmattn.maps.look import Look
from mmattn.maps.overlay import overlay
from mmattn.maps.word_flow import TINT

RNG = np.random.default_rng(0)
GLYPH = RNG.integers(0, 256, (32, 32, 3), dtype=np.uint8)
OTHER = 255 - GLYPH
WORDS = ["which", "mark", "is", "it?"]
WORTH = np.array([0.0, 0.3, 0.1, 0.0])


def large(image):
    return image.repeat(6, 0).repeat(6, 1)


def maps(*peaks):
    found = np.full((len(peaks), 4, 4), 0.001)
    found[:, 1, 2] = peaks
    return found


def contains(page, picture):
    """Whether the pixels of a picture stand somewhere on the page, unchanged."""
    height, width = picture.shape[:2]
    windows = np.lib.stride_tricks.sliding_window_view(page, (1, width, 3))[:, :, 0, 0]
    first = (windows == picture[0]).all((-1, -2))
    return any(
        np.array_equal(page[y : y + height, x : x + width], picture)
        for y, x in zip(*first.nonzero(), strict=True)
    )


def test_each_image_stands_beside_one_overlay_a_class_with_the_classs_own_scale():
    a = Argument("acute", 0.6, maps(0.2, 0.1), WORTH)
    b = Argument("grave", 0.3, maps(0.05, 0.02), WORTH, "right")
    page = decision_picture([GLYPH, OTHER], WORDS, [a, b])
    for m, image in enumerate([GLYPH, OTHER]):
        base = large(image)
        assert contains(page, base)
        for argument, top in ((a, 0.2), (b, 0.05)):  # of both images together
            assert contains(page, overlay(base, argument.maps[m], vmax=top).picture)


def test_classes_share_a_scale_where_they_are_to_be_compared():
    a, b = Argument("acute", 0.6, maps(0.2)), Argument("grave", 0.3, maps(0.05))
    page = decision_picture([GLYPH], None, [a, b], scale="shared")
    assert contains(page, overlay(large(GLYPH), b.maps[0], vmax=0.2).picture)
    assert not contains(page, overlay(large(GLYPH), b.maps[0], vmax=0.05).picture)


def test_words_have_bars_of_each_class():
    def pixels(*arguments, **options):
        page = decision_picture([], WORDS, arguments, **options)
        return (page == TINT).all(-1).sum()

    one = pixels(Argument("yes", 0.6, None, WORTH))
    assert one > 0
    assert pixels(Argument("yes", 0.6, None, 0 * WORTH)) == 0
    weak = Argument("no", 0.4, None, WORTH / 2, "right")
    assert pixels(Argument("yes", 0.6, None, WORTH), weak) == 2 * one  # each on its own scale
    assert pixels(Argument("yes", 0.6, None, WORTH), weak, scale="shared") < 2 * one


def test_what_the_network_did_not_see_fades():
    placement = Placement.center_crop((32, 32), (32, 32), (16, 16))
    argument = Argument("acute", 0.6, maps(0.2))
    page = decision_picture([GLYPH], None, [argument], placements=[placement])
    expected = overlay(large(GLYPH), argument.maps[0], placement=placement).picture
    assert contains(page, expected)


def test_a_missing_image_a_missing_text_and_maps_that_are_no_numbers_are_drawn_as_such():
    nothing = Argument("yes", 0.7, np.zeros((1, 3, 3)), np.zeros(0))
    assert decision_picture([None], [], [nothing]).dtype == np.uint8
    broken = Argument("yes", float("nan"), maps(np.nan), np.full(4, np.nan))
    page = decision_picture([GLYPH], WORDS, [broken])
    assert contains(page, large(GLYPH))
    assert not (page == TINT).all(-1).any()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_names_of_any_length_and_script_are_drawn(theme):
    name = "a class of <b>any</b> length\n" * 9 + "中文 $x^2$"
    argument = Argument(name, 0.6, maps(0.2), WORTH)
    page = decision_picture(
        [GLYPH], WORDS, [argument], title=name, truth=name, look=Look(theme=theme)
    )
    assert page.shape[2] == 3
    assert page.shape[1] < 700


def test_many_classes_wrap():
    arguments = [Argument(str(i), 0.1, maps(0.2)) for i in range(12)]
    assert decision_picture([GLYPH], None, arguments, width=700).shape[1] <= 700 + 48


def test_a_line_says_what_the_picture_shows():
    found = [Argument("acute", 0.61239), Argument("grave", 0.3, role="right")]
    line = decision_caption(found)
    assert line == "predicted: acute · 0.612 | right: grave · 0.300"
    assert decision_caption(found[:1], "dot") == "predicted: acute · 0.612 | truth: dot"


@pytest.mark.parametrize(
    ("images", "words", "argument", "said"),
    [
        ([GLYPH], None, Argument("a", 0.1, maps(0.1, 0.2)), "'a' has 2 maps for 1 images"),
        ([], WORDS, Argument("a", 0.1, None, np.ones(3)), "relevance of 3 words, and there are 4"),
        ([GLYPH], None, Argument("a", 0.1, maps(-1.0)), "values go down to -1"),
    ],
)
def test_what_does_not_fit_together_is_refused(images, words, argument, said):
    with pytest.raises(ValueError, match=said):
        decision_picture(images, words, [argument])


def test_a_decision_needs_a_class_and_a_placement_for_each_image():
    with pytest.raises(ValueError, match="at least one argument"):
        decision_picture([GLYPH], None, [])
    with pytest.raises(ValueError, match="1 images need as many placements, got 0"):
        decision_picture([GLYPH], None, [Argument("a", 0.1)], placements=[])
