"""Colour maps that anybody can read: lightness rises, signs differ, equal steps look equal."""

import numpy as np
import pytest

from mmattn.maps.colours import VEIL, blends, faded, grey, hatched, palette, ramp

# sRGB to CIE XYZ (IEC 61966-2-1), and the reduced vision of Viénot, Brettel and Mollon (1999) on
# linear RGB: a deuteranope and a protanope see what these matrices leave.
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
VISION = {
    "normal": np.eye(3),
    "deuteranope": np.array([[0.2928, 0.7072, 0], [0.2928, 0.7072, 0], [-0.0223, 0.0223, 1]]),
    "protanope": np.array([[0.1124, 0.8876, 0], [0.1124, 0.8876, 0], [0.0040, -0.0040, 1]]),
}


def lab(colours: np.ndarray, vision: str = "normal") -> np.ndarray:
    """CIELAB of sRGB colours [N, 3] in 0 to 255, white D65, as a kind of vision sees them."""
    c = colours / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ VISION[vision].T
    xyz = np.clip(linear, 0, 1) @ XYZ.T / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1)


@pytest.mark.parametrize("vision", VISION)
def test_the_lightness_of_heat_only_rises(vision):
    lightness = lab(palette("inferno", False), vision)[:, 0]
    assert lightness[0] < 3
    assert lightness[-1] > 90
    assert (np.diff(lightness) > -0.35).all()  # colours are rounded to whole levels
    assert (np.diff(lightness[::8]) > 0).all()


def test_equal_steps_of_heat_are_about_equal_steps_of_lightness():
    def unevenness(colormap: str) -> float:
        steps = np.diff(lab(palette(colormap, False))[::16, 0])
        return float(steps.std() / abs(steps.mean()))

    assert unevenness("inferno") < 0.25
    assert unevenness("jet") > 2  # the rainbow, to show that the measure tells


@pytest.mark.parametrize("vision", VISION)
def test_signs_can_be_told_apart(vision):
    colours = lab(palette("coolwarm", True), vision)
    for strength in (32, 64, 127):
        apart = np.linalg.norm(colours[127 + strength] - colours[127 - strength])
        assert apart > 20  # a difference of 2 can just be seen
    # Strong is darker than weak, on both sides.
    assert colours[127, 0] > colours[191, 0] > colours[254, 0]
    assert colours[127, 0] > colours[63, 0] > colours[0, 0]


def test_a_signed_palette_is_neutral_in_the_middle():
    assert np.ptp(palette("coolwarm", True)[127].astype(int)) <= 3
    np.testing.assert_array_equal(palette("coolwarm", True)[255], palette("coolwarm", True)[254])


@pytest.mark.parametrize(("signed", "none", "full"), [(False, 0, [255]), (True, 127, [0, 254])])
def test_opacity_rises_with_strength(signed, none, full):
    table = blends("inferno", 0.8, signed).view(np.uint8).reshape(256, 256, 4)
    assert (table[..., 3] == 255).all()
    kept = table[:, 255, 0].astype(int) - table[:, 0, 0]  # how much of white is left over black
    assert kept[none] == (1 - VEIL) * 255
    for end in full:
        assert kept[end] == pytest.approx(0.2 * 255 * (1 - VEIL if signed else 1), abs=1)
    assert kept.argmax() == none


def test_without_attention_both_scales_show_the_same_picture():
    heat, signs = (
        blends(colormap, 0.8, signed).view(np.uint8).reshape(256, 256, 4)
        for colormap, signed in [("inferno", False), ("coolwarm", True)]
    )
    np.testing.assert_allclose(heat[0].astype(int), signs[127], atol=1)


def test_grey_is_luma():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    np.testing.assert_allclose(grey(image), image @ np.array([0.299, 0.587, 0.114]), atol=0.51)


def test_fading_goes_towards_the_sheet():
    pixels = faded(np.array([[0, 255]], np.uint8), (100, 200, 50)).view(np.uint8).reshape(2, 4)
    assert pixels.tolist() == [[70, 140, 35, 255], [146, 216, 112, 255]]


@pytest.mark.parametrize("signed", [False, True])
def test_a_bar_shows_the_whole_scale(signed):
    bar = np.asarray(ramp(300, 6, "inferno", signed))
    colours = palette("inferno", signed)
    assert bar.shape == (6, 300, 3)
    assert (bar == bar[0]).all()
    last = 254 if signed else 255
    assert (bar[0, 0] == colours[0]).all()
    assert (bar[0, -1] == colours[last]).all()
    assert len(np.unique(bar[0], axis=0)) == last + 1


def test_stripes_have_both_colours_evenly():
    stripes = np.asarray(hatched(64, 64, (10, 20, 30), (200, 210, 220)))
    dark = (stripes == (10, 20, 30)).all(2)
    assert (dark | (stripes == (200, 210, 220)).all(2)).all()
    assert dark.mean() == pytest.approx(0.5, abs=0.05)


def test_shared_tables_cannot_be_written_to():
    for table in (palette("inferno", False), blends("inferno", 0.8, False)):
        with pytest.raises(ValueError, match="read-only"):
            table[0] = 0
