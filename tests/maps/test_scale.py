"""Scales say how much; readings say what a map holds, and what it lacks."""

import numpy as np
import pytest

from mmattn.maps.scale import FLAT, Scale, aligned, explained, number, read, scales

NAN = float("nan")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (-0.0, "0"), (0.5, "0.50"), (0.016, "0.016"), (1.0, "1.0"), (9.94, "9.9"),
        (9.96, "10"), (12.3, "12"), (12345.0, "12345"), (100000.0, "1.0e5"), (0.001, "0.0010"),
        (0.0009996, "0.0010"), (0.00042, "4.2e−4"), (1e-7, "1.0e−7"), (-0.25, "−0.25"),
        (-1e-7, "−1.0e−7"), (-30.0, "−30"),
    ],
)  # fmt: skip
def test_numbers_are_short(value, text):
    assert number(value) == text


def test_numbers_below_each_other_have_the_decimals_of_the_largest():
    assert [aligned(v, 4.2) for v in (4.2, 0.284, -0.001, 0.0)] == ["4.20", "0.28", "0.00", "0.00"]
    assert [aligned(v, 0.06) for v in (0.06, -0.0031)] == ["0.0600", "−0.0031"]
    assert [aligned(v, 1234.0) for v in (1234.0, 5.6)] == ["1234", "6"]
    assert aligned(3e-9, 1e-8) == "3.0e−9"


def test_a_map_has_its_own_end_or_all_share_the_largest():
    peaked, flat = np.array([[0.0, 0.0, 0.0, 0.0, 0.5]]), np.full((1, 5), 0.1)
    maps = np.stack([peaked, flat])
    assert [s.vmax for s in scales(maps, "each", False)] == pytest.approx([0.5, FLAT * 0.1])
    assert scales(maps, "shared", False) == [Scale(0.5)] * 2
    assert scales(maps, 0.3, False) == [Scale(0.3)] * 2
    assert scales(maps[:0], "shared", False) == []


def test_a_signed_scale_lies_evenly_around_0():
    maps = np.array([[[-0.5, 0.1, 0.0, 0.0, 0.0]], [[0.0, 0.2, 0.0, 0.0, 0.0]]])
    each = scales(maps, "each", True)
    assert [(s.vmin, s.vmax) for s in each] == [(-0.5, 0.5), (-0.2, 0.2)]
    assert {(s.vmin, s.vmax) for s in scales(maps, "shared", True)} == {(-0.5, 0.5)}


def test_levels_hit_0_and_the_ends():
    values = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    signed = np.clip(Scale(2.0, True).levels(values), 0, 255).astype(int)
    assert signed.tolist() == [0, 64, 127, 191, 254]
    rising = np.clip(Scale(2.0).levels(values[2:]), 0, 255).astype(int)
    assert rising.tolist() == [0, 128, 255]
    assert np.isfinite(Scale(0.0).levels(np.zeros(3))).all()


def test_negative_values_need_a_signed_scale():
    with pytest.raises(ValueError, match=r"go down to -0\.3.*signed=True"):
        scales(np.array([[[0.2, -0.3]]]), "each", False)
    scales(np.array([[[0.2, -np.inf]]]), "each", False)  # is shown as not finite, not refused


def test_maps_that_are_not_finite_have_no_part_in_a_shared_scale():
    maps = np.array([[[0.2, 0.0, 0.0, 0.0]], [[9.0, NAN, 0.0, 0.0]], [[np.inf, 0.0, 0.0, 0.0]]])
    assert {s.vmax for s in scales(maps, "shared", False)} == {0.2}


@pytest.mark.parametrize("rule", ["all", -1.0, NAN, float("inf")])
def test_a_senseless_rule_is_refused(rule):
    with pytest.raises((ValueError, TypeError)):  # the type checker of the tests meets "all" first
        scales(np.ones((1, 2, 2)), rule, False)


@pytest.mark.parametrize(
    ("values", "signed", "long", "short"),
    [
        ([0.0, 0.2, 0.3, 0.0], False, "peak 0.30, mass 0.50", "0.30, 0.50"),
        ([0.25] * 4, False, "constant 0.25, mass 1.0", "constant 0.25"),
        ([0.0] * 4, False, "constant 0, mass 0", "constant 0"),
        ([0.25, 0.25 + 1e-8, 0.25, 0.25], False, "constant 0.25, mass 1.0", "constant 0.25"),
        ([-0.1, 0.3, 0.0, 0.0], True, "−0.10 to 0.30, sum 0.20", "−0.10 to 0.30"),
        ([0.0, NAN, np.inf, 0.0], False, "not finite: 2 of 4", "2 of 4 values"),
        ([NAN] * 4, True, "not finite: 4 of 4", "4 of 4 values"),
    ],
)
def test_a_reading_says_what_a_map_holds(values, signed, long, short):
    reading = read(np.array(values).reshape(2, 2))
    assert " ".join(reading.parts(signed)) == long
    assert " ".join(reading.short(signed)) == short


def test_the_small_print_says_what_colours_mean():
    assert explained("each", [Scale(0.5)], False) == [
        "colours: each map from 0 to its own largest value, or 4 times its mean if more"
    ]
    assert explained("shared", [Scale(0.5, True)], True) == [
        "colours: every map from −0.50 to 0.50",
        "faded: what the network did not see",
    ]
    assert explained("each", [], False) == []
