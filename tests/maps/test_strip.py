"""A strip: the image, then a map per word, with its scale, its word and its numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmattn.maps.geometry import Placement
from mmattn.maps.look import Look
from mmattn.maps.overlay import overlay
from mmattn.maps.page import GAP, MARGIN
from mmattn.maps.png import save_png
from mmattn.maps.strip import strip

BLOCKS = Look(mode="nearest")
RNG = np.random.default_rng(0)
GLYPH = RNG.integers(0, 256, (32, 32, 3), dtype=np.uint8)
BIG = GLYPH.repeat(6, 0).repeat(6, 1)  # as it is drawn: 192 pixels


def one_hot(grid: tuple[int, int], row: int, column: int) -> np.ndarray:
    map = np.zeros(grid)
    map[row, column] = 1
    return map


def cell(page: np.ndarray, place: int) -> np.ndarray:
    """The picture at a place of the first row of a page without a header."""
    left = MARGIN + place * (192 + GAP)
    return page[MARGIN : MARGIN + 192, left : left + 192]


def lines(page: np.ndarray) -> list[np.ndarray]:
    """What stands below the first word's map: the ends of the scale, the word, the numbers."""
    below = page[MARGIN + 192 :, MARGIN + 192 + GAP :][:66, :192]
    return [below[14:27], below[28:48], below[49:66]]


def test_a_strip_shows_the_pixels_of_a_small_image_first_then_the_words():
    maps = np.stack([one_hot((8, 8), 1, 2), one_hot((8, 8), 6, 5)])
    page = strip(GLYPH, ["latin", "letter"], maps, look=BLOCKS)
    for place, expected in enumerate([BIG, *(overlay(BIG, m, look=BLOCKS).picture for m in maps)]):
        np.testing.assert_array_equal(cell(page, place), expected)


def test_scale_word_and_numbers_stand_below_the_map():
    def drawn(word: str, map: np.ndarray, scale: float) -> list[np.ndarray]:
        return lines(strip(GLYPH, [word], map[None], scale=scale))

    def changed(*case) -> list[bool]:
        before = drawn("cat", one_hot((8, 8), 1, 2), 0.5)
        return [not np.array_equal(*pair) for pair in zip(before, drawn(*case), strict=True)]

    map = one_hot((8, 8), 1, 2)
    assert changed("cat", map, 0.5) == [False, False, False]
    assert changed("cat", map, 0.6) == [True, False, False]
    assert changed("dog", map, 0.5) == [False, True, False]
    assert changed("cat", map * 0.7, 0.5) == [False, False, True]
    assert changed("cat", map + one_hot((8, 8), 3, 3), 0.5) == [False, False, True]  # mass alone


def test_a_signed_strip_has_a_scale_around_0():
    map = one_hot((8, 8), 1, 2) - one_hot((8, 8), 5, 5)
    page = strip(GLYPH, ["a"], map[None], signed=True, look=BLOCKS)
    expected = overlay(BIG, map, signed=True, look=BLOCKS).picture
    np.testing.assert_array_equal(cell(page, 1), expected)
    bar = page[MARGIN + 192 + 6, MARGIN + 192 + GAP :][:192].astype(int)
    assert bar[0, 2] > bar[0, 0] + 80  # blue below
    assert bar[-1, 0] > bar[-1, 2] + 80  # red above
    assert np.ptp(bar[96]) <= 6
    with pytest.raises(ValueError, match="signed=True"):
        strip(GLYPH, ["a"], map[None])


def test_a_map_that_is_not_finite_does_not_spoil_the_others():
    maps = np.stack([one_hot((8, 8), 1, 2), one_hot((8, 8), 6, 5)])
    before = strip(GLYPH, ["a", "b"], maps, scale="shared")
    maps[0, 4, 4] = np.nan
    page = strip(GLYPH, ["a", "b"], maps, scale="shared")
    np.testing.assert_array_equal(cell(page, 2), cell(before, 2))
    assert not np.array_equal(cell(page, 1), cell(before, 1))
    ends, _, numbers = lines(page)
    assert (ends == ends[0, 0]).all()  # no scale where there are no colours
    assert not np.array_equal(numbers, lines(before)[2])


def test_a_strip_on_the_original_fades_what_was_cut_off():
    placement = Placement((32, 32), (0.0, 0.0, 32.0, 16.0))
    map = np.full((1, 4, 2), 1 / 8)
    first = cell(strip(np.zeros_like(GLYPH), ["a"], map, placement=placement), 1)
    assert first[:, :96].max() < 100
    assert (first[:, 96:] == np.rint(0.7 * np.array(Look().paper.sheet))).all()


@pytest.mark.parametrize(("scale", "vmax"), [("each", 0.1), ("shared", 1.0), (0.4, 0.4)])
def test_a_shared_scale_dims_the_weaker_word(scale, vmax):
    maps = np.stack([one_hot((8, 8), 4, 4), one_hot((8, 8), 4, 4) * 0.1])
    drawn = strip(GLYPH, ["a", "b"], maps, scale=scale, look=BLOCKS)
    expected = overlay(BIG, maps[1], vmax=vmax, look=BLOCKS).picture
    np.testing.assert_array_equal(cell(drawn, 2), expected)


@pytest.mark.parametrize("size", [(32, 32), (224, 224), (224, 384), (300, 90), (1, 500)])
def test_long_captions_wrap_into_rows(size):
    image = np.full((*size, 3), 90, dtype=np.uint8)
    words = [f"word{i}" for i in range(20)]
    page = strip(image, words, RNG.random((20, 3, 5)), caption=" ".join(words), references=["a b"])
    few = strip(image, words[:2], RNG.random((2, 3, 5)))
    assert page.dtype == np.uint8
    assert page.shape[0] > 2 * few.shape[0] - 200
    if size != (1, 500):  # a picture wider than the page has a row of its own
        assert page.shape[1] <= 1280


def test_a_caption_without_words_leaves_the_image():
    page = strip(GLYPH, [], np.zeros((0, 8, 8)))
    np.testing.assert_array_equal(cell(page, 0), BIG)


def test_the_header_holds_caption_and_references():
    maps = np.ones((1, 8, 8))
    heights = [
        strip(GLYPH, ["a"], maps, caption=caption, references=references).shape[0]
        for caption, references in [("", ()), ("a", ()), ("a", ("b",)), ("a", ("b", "c d " * 90))]
    ]
    assert heights == sorted(set(heights))


def test_words_and_maps_must_be_as_many():
    with pytest.raises(ValueError, match="2 words"):
        strip(GLYPH, ["a", "b"], np.ones((3, 8, 8)))


@settings(max_examples=30)
@given(st.text(max_size=60))
@pytest.mark.parametrize("prefix", ["", "naïve Ελληνικά кошка עברית 日本 \x00\ud83d\n" + "x" * 300])
def test_any_text_is_drawn(prefix, text):
    page = strip(GLYPH, [prefix + text], np.ones((1, 4, 4)), caption=prefix + text, cell=64)
    assert page.dtype == np.uint8


def test_accents_are_drawn():
    pages = [strip(GLYPH, [word], np.ones((1, 8, 8))) for word in ("e", "é", "ё", "ế")]
    assert len({page.tobytes() for page in pages}) == 4


def test_both_themes_show_the_same_maps_on_their_own_paper():
    maps = np.stack([one_hot((8, 8), 1, 2), one_hot((8, 8), 6, 5)])
    light, dark = (
        strip(GLYPH, ["a", "b"], maps, caption="a b", look=Look(theme=theme))
        for theme in ("light", "dark")
    )
    assert light.shape == dark.shape
    below_header = light.shape[0] - strip(GLYPH, ["a", "b"], maps).shape[0]
    for place in range(3):
        pair = [cell(page[below_header:], place) for page in (light, dark)]
        np.testing.assert_array_equal(*pair)
    assert light[0, 0].min() > 230
    assert dark[0, 0].max() < 40
    text = np.s_[MARGIN : MARGIN + 28, MARGIN:]
    assert light[text].min() < 60
    assert dark[text].max() > 200


def test_a_photo_with_a_caption_of_twenty_words(data_root, tmp_path):
    path = min((data_root / "flickr8k" / "images").glob("*.jpg"))
    with Image.open(path) as photo:
        image = np.asarray(photo.convert("RGB"))
    maps = RNG.dirichlet(np.ones(196), 20).reshape(20, 14, 14)
    page = strip(image, ["dog"] * 20, maps, caption="dog " * 20, scale="shared")
    save_png(tmp_path / "photo.png", page)
    assert page.shape[1] == 2 * MARGIN + 6 * 192 + 5 * GAP
    assert (tmp_path / "photo.png").stat().st_size < 3_000_000
