"""A map over its image: heat where the attention is, magnitude kept, what is no number shown."""

import matplotlib
import numpy as np
import pytest
from PIL import Image

from mmattn.maps.colours import VEIL
from mmattn.maps.geometry import Placement
from mmattn.maps.look import LOOK, Look
from mmattn.maps.overlay import overlay, overlays, resized
from mmattn.maps.scale import FLAT

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
    picture, scale, reading = overlay(PHOTO, one_hot((14, 24), 3, 20), look=BLOCKS)
    assert picture.shape == PHOTO.shape
    assert picture.dtype == np.uint8
    hot = np.s_[48:64, 320:336]
    expected = blended(PHOTO, 0.0)
    expected[hot] = blended(PHOTO[hot], 1.0)
    np.testing.assert_allclose(picture, expected, atol=1)
    assert (scale.vmin, scale.vmax) == (0.0, 1.0)
    assert (reading.low, reading.peak, reading.mass, reading.bad) == (0.0, 1.0, 1.0, 0)


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(
    "placement",
    [None, Placement.center_crop((40, 60), 32, 32), Placement.letterbox((40, 60), (64, 64))],
    ids=["whole", "crop", "letterbox"],
)
def test_the_tables_draw_what_floats_would(mode, signed, placement):
    """The plain twin: project, scale, colour by matplotlib, blend in floats."""
    image, maps = RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8), RNG.random((3, 8, 7))
    maps = maps - 0.5 if signed else maps
    look = Look(mode=mode)
    drawn = overlays(image, maps, "each", signed, placement, look)
    for map, one in zip(maps, drawn, strict=True):
        placed = placement or Placement.resize((40, 60))
        end = max(np.abs(map).max(), FLAT * np.abs(map).mean())
        # A map far above 0 is projected without being cut at 0.
        values = placed.project(map + 10, mode) - 10 * placed.project(np.ones_like(map), mode)
        heat = np.clip(values / end, -1 if signed else 0, 1)
        grey = image @ np.array([0.299, 0.587, 0.114])
        # Blue and red change by up to three levels from one colour to the next: look up the same.
        where = np.floor(heat * 127 + 127.5) / 254 if signed else heat
        strength = np.abs(where * 2 - 1) if signed else heat
        colour = matplotlib.colormaps["coolwarm" if signed else "inferno"](where)[..., :3] * 255
        opacity = 0.8 * np.minimum(1.5 * strength, 1) if signed else VEIL + 0.6 * strength
        base = (1 - VEIL) * grey if signed else grey
        plain = (1 - opacity[..., None]) * base[..., None] + opacity[..., None] * colour
        seen = placed.project(np.ones_like(map), mode)[..., None] > 0.5
        faded = 0.3 * grey[..., None] + 0.7 * np.array(look.paper.sheet)
        np.testing.assert_allclose(one.picture, np.rint(np.where(seen, plain, faded)), atol=1)
        alone = overlay(image, map, signed=signed, placement=placement, look=look)
        np.testing.assert_array_equal(alone.picture, one.picture)


def test_inputs_are_not_modified():
    image, map = PHOTO.copy(), RNG.random((14, 24)) - 0.5
    before = map.copy()
    overlay(image, map, signed=True)
    overlays(image, map[None], "shared", True, None, LOOK)
    np.testing.assert_array_equal(image, PHOTO)
    np.testing.assert_array_equal(map, before)


@pytest.mark.parametrize("level", [0.0, 1e-30, 1 / 64, 5.0])
def test_a_constant_map_is_drawn_flat_and_called_constant(level):
    picture, scale, reading = overlay(GLYPH, np.full((8, 8), level))
    assert scale.vmax == pytest.approx(FLAT * level)
    assert reading.constant
    np.testing.assert_allclose(picture, blended(GLYPH, 1 / FLAT if level else 0.0), atol=1)


def test_magnitude_is_kept_by_a_common_scale_and_printed():
    strong, weak = one_hot((8, 8), 2, 2) * 0.8, one_hot((8, 8), 2, 2) * 0.2
    own, common = overlay(GLYPH, weak), overlay(GLYPH, weak, vmax=0.8)
    np.testing.assert_array_equal(own.picture, overlay(GLYPH, strong).picture)
    assert not np.array_equal(own.picture, common.picture)
    assert common.caption == "scale 0 to 0.80, peak 0.20, mass 0.20"


def test_signs_are_two_colours_as_strong_as_each_other():
    grey = np.full((32, 32, 3), 120, np.uint8)
    map = one_hot((4, 4), 0, 0) - one_hot((4, 4), 3, 3)
    drawn = overlay(grey, map, signed=True, look=BLOCKS)
    above, below, zero = drawn.picture[0, 0], drawn.picture[-1, -1], drawn.picture[0, -1]
    assert above[0] > above[2] + 80  # red
    assert below[2] > below[0] + 80  # blue
    assert np.ptp(zero.astype(int)) <= 2  # grey
    assert drawn.caption == "scale −1.0 to 1.0, −1.0 to 1.0, sum 0"
    mirrored = overlay(grey, -map, signed=True, look=BLOCKS).picture
    np.testing.assert_array_equal(mirrored, drawn.picture[::-1, ::-1])


def test_a_signed_map_on_a_scale_from_0_is_refused_with_the_remedy():
    map = one_hot((4, 4), 1, 1) - 0.25
    with pytest.raises(ValueError, match=r"-0\.25.*signed=True"):
        overlay(GLYPH, map)
    scale = overlay(GLYPH, map, signed=True).scale
    assert (scale.vmin, scale.vmax) == (-1.125, 1.125)  # four times the mean magnitude


def test_a_map_of_pixels_is_drawn_as_it_is():
    map = RNG.random((32, 32))
    pixels = overlay(GLYPH, map, vmax=1.0).picture
    expected = [[blended(GLYPH[i, j], map[i, j]) for j in range(32)] for i in range(32)]
    np.testing.assert_allclose(pixels, expected, atol=1)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_what_the_network_did_not_see_fades_into_the_paper(theme):
    placement = Placement.center_crop((224, 384), 224, 224)
    look = Look(mode="nearest", theme=theme)
    picture = overlay(PHOTO, one_hot((14, 14), 0, 0), placement=placement, look=look).picture
    np.testing.assert_allclose(picture[:16, 80:96], blended(PHOTO[:16, 80:96], 1.0), atol=1)
    sheet = np.array(look.paper.sheet)
    for unseen in (picture[:, :80], picture[:, 304:]):
        assert np.abs(unseen - sheet).max() <= 0.3 * 255 + 1
    assert np.abs(picture[:, 80:304] - sheet).max() > 0.5 * 255


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


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_among_others_a_map_that_is_not_finite_is_striped(bad):
    maps = np.stack([one_hot((8, 8), 1, 2), one_hot((8, 8), 3, 4), one_hot((8, 8), 5, 6)])
    maps[1, 0, :3] = bad
    drawn = overlays(GLYPH, maps, "shared", False, None, LOOK)
    assert [one.reading.bad for one in drawn] == [0, 3, 0]
    for i in (0, 2):
        np.testing.assert_array_equal(drawn[i].picture, overlay(GLYPH, maps[i]).picture)
    stripes = np.asarray(drawn[1].picture)
    assert stripes.shape == GLYPH.shape
    colours = set(map(tuple, stripes.reshape(-1, 3).tolist()))
    assert colours == {LOOK.paper.blank, LOOK.paper.sheet}
    with pytest.raises(ValueError, match="3 of the map's 64"):
        overlay(GLYPH, maps[1])


def test_the_stripes_say_why_where_there_is_room():
    big = np.zeros((100, 100, 3), np.uint8)
    picture = overlays(big, np.full((1, 2, 2), np.nan), "each", False, None, LOOK)[0].picture
    assert LOOK.paper.ink in set(map(tuple, np.asarray(picture).reshape(-1, 3).tolist()))


@pytest.mark.parametrize(
    ("size", "cell", "expected"),
    [((32, 32), 192, (192, 192)), ((10, 40), 60, (30, 120)), ((400, 100), 100, (200, 50))],
)
def test_images_are_drawn_with_the_area_of_a_cell(size, cell, expected):
    image = RNG.integers(0, 256, (*size, 3), dtype=np.uint8)
    drawn = resized(image, cell)
    assert drawn.shape == (*expected, 3)
    if size[0] < expected[0]:  # every pixel stays visible
        factor = expected[0] // size[0]
        np.testing.assert_array_equal(drawn[::factor, ::factor], image)
        np.testing.assert_array_equal(drawn[factor - 1 :: factor, factor - 1 :: factor], image)
    else:
        plain = Image.fromarray(image).resize(expected[::-1], Image.Resampling.LANCZOS)
        np.testing.assert_array_equal(drawn, plain)
