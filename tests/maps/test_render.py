"""Pictures: right size and type, heat where the attention is, magnitude printed, any text drawn."""

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmattn.maps.colours import VEIL
from mmattn.maps.geometry import Placement
from mmattn.maps.render import (
    FLAT,
    GAP,
    MARGIN,
    Look,
    layer_head_grid,
    overlay,
    save_png,
    strip,
)

BLOCKS = Look(mode="nearest")
RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (224, 384, 3), dtype=np.uint8)
GLYPH = RNG.integers(0, 256, (32, 32, 3), dtype=np.uint8)


def one_hot(grid: tuple[int, int], row: int, column: int) -> np.ndarray:
    map = np.zeros(grid)
    map[row, column] = 1
    return map


def blended(image: np.ndarray, heat: float, alpha: float = 0.8) -> np.ndarray:
    """What the docstring says: grey under the colour of the heat, opacity from VEIL to alpha."""
    grey = image @ np.array([0.299, 0.587, 0.114])
    colour = np.array(matplotlib.colormaps["inferno"](heat)[:3]) * 255
    opacity = VEIL + (alpha - VEIL) * heat
    return np.rint((1 - opacity) * grey[..., None] + opacity * colour)


def test_heat_lies_on_the_pixels_of_the_patch():
    picture, scale = overlay(PHOTO, one_hot((14, 24), 3, 20), look=BLOCKS)
    assert picture.shape == PHOTO.shape
    assert picture.dtype == np.uint8
    hot = np.s_[48:64, 320:336]
    expected = blended(PHOTO, 0.0)
    expected[hot] = blended(PHOTO[hot], 1.0)
    np.testing.assert_allclose(picture, expected, atol=1)
    assert scale == (0.0, 1.0, 1.0, 1.0)


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize(
    "placement",
    [None, Placement.center_crop((40, 60), 32, 32), Placement.letterbox((40, 60), (64, 64))],
    ids=["whole", "crop", "letterbox"],
)
def test_the_tables_draw_what_floats_would(mode, placement):
    """The plain twin: project, scale, colour by matplotlib, blend in floats."""
    image, maps = RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8), RNG.random((3, 8, 7))
    for map in maps:
        picture, scale = overlay(image, map, placement=placement, look=Look(mode=mode))
        placed = placement or Placement.resize((40, 60))
        heat = np.clip(placed.project(map, mode) / scale.vmax, 0, 1)
        grey = image @ np.array([0.299, 0.587, 0.114])
        colour = matplotlib.colormaps["inferno"](heat)[..., :3] * 255
        opacity = (VEIL + (0.8 - VEIL) * heat)[..., None]
        plain = (1 - opacity) * grey[..., None] + opacity * colour
        seen = placed.project(np.ones_like(map), mode)[..., None] > 0.5
        plain = np.where(seen, plain, (0.3 * grey + 178)[..., None])
        np.testing.assert_allclose(picture, np.rint(plain), atol=1)


def test_inputs_are_not_modified():
    image, map = PHOTO.copy(), RNG.random((14, 24))
    before = map.copy()
    overlay(image, map)
    strip(image, ["word"], map[None])
    layer_head_grid(image, map.reshape(1, 1, -1), (14, 24))
    np.testing.assert_array_equal(image, PHOTO)
    np.testing.assert_array_equal(map, before)


@pytest.mark.parametrize("level", [0.0, 1e-30, 1 / 64, 5.0])
def test_a_constant_map_is_drawn_flat(level):
    picture, scale = overlay(GLYPH, np.full((8, 8), level))
    assert np.isfinite(scale).all()
    assert scale.vmax == pytest.approx(FLAT * level)
    np.testing.assert_allclose(picture, blended(GLYPH, 1 / FLAT if level else 0.0), atol=1)


def test_magnitude_is_kept_by_a_common_scale_and_printed():
    strong, weak = one_hot((8, 8), 2, 2) * 0.8, one_hot((8, 8), 2, 2) * 0.2
    own = overlay(GLYPH, weak).picture
    common, scale = overlay(GLYPH, weak, vmax=0.8)
    np.testing.assert_array_equal(own, overlay(GLYPH, strong).picture)
    assert not np.array_equal(own, common)
    assert scale.caption == "scale 0 to 0.80, peak 0.20, mass 0.20"


def test_a_map_of_pixels_is_drawn_as_it_is():
    map = RNG.random((32, 32))
    pixels, _ = overlay(GLYPH, map, vmax=1.0)
    expected = [[blended(GLYPH[i, j], map[i, j]) for j in range(32)] for i in range(32)]
    np.testing.assert_allclose(pixels, expected, atol=1)


def test_what_the_network_did_not_see_is_pale():
    placement = Placement.center_crop((224, 384), 224, 224)
    picture, _ = overlay(PHOTO, one_hot((14, 14), 0, 0), placement=placement, look=BLOCKS)
    np.testing.assert_allclose(picture[:16, 80:96], blended(PHOTO[:16, 80:96], 1.0), atol=1)
    assert picture[:, :80].min() >= 178
    assert picture[:, 304:].min() >= 178
    assert picture[:, 80:304].min() < 100


@pytest.mark.parametrize(
    "image",
    [PHOTO / 255, PHOTO[..., 0], np.moveaxis(PHOTO, 2, 0), np.zeros((0, 4, 3), np.uint8)],
    ids=["float", "grey", "channels first", "empty"],
)
def test_what_is_no_rgb_picture_is_refused(image):
    with pytest.raises(ValueError, match="uint8 RGB"):
        overlay(image, np.ones((2, 2)))


@pytest.mark.parametrize("vmax", [-1.0, float("nan"), float("inf")])
def test_a_senseless_scale_is_refused(vmax):
    with pytest.raises(ValueError, match="scale"):
        overlay(GLYPH, np.ones((8, 8)), vmax=vmax)


def test_a_strip_shows_the_pixels_of_a_small_image_first_then_the_words():
    maps = np.stack([one_hot((8, 8), 1, 2), one_hot((8, 8), 6, 5)])
    page = strip(GLYPH, ["latin", "letter"], maps, look=BLOCKS)
    big = GLYPH.repeat(6, 0).repeat(6, 1)  # 192 pixels
    for place, expected in enumerate([big, *(overlay(big, m, look=BLOCKS).picture for m in maps)]):
        left = MARGIN + place * (192 + GAP)
        np.testing.assert_array_equal(page[MARGIN : MARGIN + 192, left : left + 192], expected)


def test_scale_word_and_numbers_stand_below_the_map():
    def lines(word: str, map: np.ndarray, scale: float) -> list[np.ndarray]:
        page = strip(GLYPH, [word], map[None], scale=scale)
        below = page[MARGIN + 192 :, MARGIN + 192 + GAP :][:66, :192]
        return [below[14:27], below[28:48], below[49:66]]  # ends of the scale, word, numbers

    def changed(*case) -> list[bool]:
        before = lines("cat", one_hot((8, 8), 1, 2), 0.5)
        return [not np.array_equal(*pair) for pair in zip(before, lines(*case), strict=True)]

    map = one_hot((8, 8), 1, 2)
    assert changed("cat", map, 0.5) == [False, False, False]
    assert changed("cat", map, 0.6) == [True, False, False]
    assert changed("dog", map, 0.5) == [False, True, False]
    assert changed("cat", map * 0.7, 0.5) == [False, False, True]
    assert changed("cat", map + one_hot((8, 8), 3, 3), 0.5) == [False, False, True]  # mass alone


def test_a_strip_on_the_original_fades_what_was_cut_off():
    placement = Placement((32, 32), (0.0, 0.0, 32.0, 16.0))
    map = np.full((1, 4, 2), 1 / 8)
    page = strip(np.zeros_like(GLYPH), ["a"], map, placement=placement)
    cell = page[MARGIN : MARGIN + 192, MARGIN + 192 + GAP :][:, :192]
    assert cell[:, :96].max() < 178
    assert cell[:, 96:].min() == 178


@pytest.mark.parametrize(("scale", "vmax"), [("each", 0.1), ("shared", 1.0), (0.4, 0.4)])
def test_a_shared_scale_dims_the_weaker_word(scale, vmax):
    maps = np.stack([one_hot((8, 8), 4, 4), one_hot((8, 8), 4, 4) * 0.1])
    left = MARGIN + 2 * (192 + GAP)
    drawn = strip(GLYPH, ["a", "b"], maps, scale=scale, look=BLOCKS)
    big = GLYPH.repeat(6, 0).repeat(6, 1)
    expected = overlay(big, maps[1], vmax=vmax, look=BLOCKS).picture
    np.testing.assert_array_equal(drawn[MARGIN : MARGIN + 192, left : left + 192], expected)


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


def test_the_grid_has_a_row_for_each_layer_and_a_column_for_each_head():
    attention = np.zeros((2, 3, 5 + 8 * 8))
    attention[1, 2, 5 + 3 * 8 + 6] = 0.7
    page = layer_head_grid(GLYPH, attention, (8, 8), prefix=5, look=BLOCKS)
    big = GLYPH.repeat(3, 0).repeat(3, 1)  # 96 pixels
    np.testing.assert_array_equal(page[MARGIN : MARGIN + 96, MARGIN : MARGIN + 96], big)
    for layer in range(2):
        for head in range(3):
            top = MARGIN + 96 + 28 + 10 + layer * (96 + 17 + 10)
            left = MARGIN + (head + 1) * (96 + 10)
            map = attention[layer, head, 5:].reshape(8, 8)
            expected = overlay(big, map, look=BLOCKS).picture
            np.testing.assert_array_equal(page[top : top + 96, left : left + 96], expected)


def test_the_axes_name_the_layers_and_heads_that_were_recorded():
    attention = np.ones((2, 2, 64)) / 64
    plain = layer_head_grid(GLYPH, attention, (8, 8))
    same = layer_head_grid(GLYPH, attention, (8, 8), layers=[0, 1], heads=[0, 1])
    np.testing.assert_array_equal(plain, same)
    other = layer_head_grid(GLYPH, attention, (8, 8), layers=[0, 7], heads=[0, 9])
    rows, columns = np.nonzero((plain != other).any(axis=2))
    first_row = MARGIN + 96 + 28 + 10
    # The label of head 1 stands over the second column, that of layer 1 left of the second row.
    over, beside = rows < first_row, rows > first_row + 96 + 17
    assert over.any()
    assert beside.any()
    assert (over | beside).all()
    assert columns[over].min() >= MARGIN + 2 * (96 + 10)
    assert columns[beside].max() < MARGIN + 96


@pytest.mark.parametrize("shape", [(2, 64), (2, 4, 65), (3, 4, 64)])
def test_a_grid_that_does_not_fit_is_refused(shape):
    with pytest.raises(ValueError, match="attention"):
        layer_head_grid(GLYPH, np.ones(shape), (8, 8), layers=[0, 1])


def test_a_photo_with_a_caption_of_twenty_words(data_root, tmp_path):
    path = min((data_root / "flickr8k" / "images").glob("*.jpg"))
    with Image.open(path) as photo:
        image = np.asarray(photo.convert("RGB"))
    maps = RNG.dirichlet(np.ones(196), 20).reshape(20, 14, 14)
    page = strip(image, ["dog"] * 20, maps, caption="dog " * 20, scale="shared")
    save_png(tmp_path / "photo.png", page)
    assert page.shape[1] == 2 * MARGIN + 6 * 192 + 5 * GAP
    assert (tmp_path / "photo.png").stat().st_size < 3_000_000
