"""A patch lights its own pixels, on any grid and on the original image; region shares are exact."""

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as vision
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.nn.functional import interpolate

from mmattn.errors import DataError
from mmattn.maps.geometry import Placement, patch_coverage, patch_maps, to_pixels

SIDE = st.integers(1, 7)
RNG = np.random.default_rng(0)


def one_hot(grid: tuple[int, int], row: int, column: int) -> np.ndarray:
    map = np.zeros(grid)
    map[row, column] = 1
    return map


@st.composite
def grids_and_patch(draw) -> tuple[tuple[int, int], int, int]:
    height, width = draw(SIDE), draw(SIDE)
    return (height, width), draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))


def test_patch_maps_leaves_out_the_class_token_and_registers():
    attention = np.arange(2 * (5 + 14 * 24)).reshape(2, -1)
    maps = patch_maps(attention, (14, 24), prefix=5)
    assert maps.shape == (2, 14, 24)
    assert maps[0, 0, 0] == 5
    assert maps[1, 3, 7] == attention[1, 5 + 3 * 24 + 7]


@pytest.mark.parametrize(("prefix", "grid"), [(1, (14, 24)), (5, (18, 18)), (-1, (14, 24))])
def test_patch_maps_refuses_another_number_of_keys(prefix, grid):
    with pytest.raises(ValueError, match="341 keys"):
        patch_maps(np.zeros((2, 5 + 14 * 24)), grid, prefix)


@given(grids_and_patch(), st.integers(1, 9), st.integers(1, 9))
def test_nearest_lights_exactly_the_rectangle_of_the_patch(case, high, wide):
    grid, row, column = case
    expected = np.zeros((grid[0] * high, grid[1] * wide))
    expected[row * high : (row + 1) * high, column * wide : (column + 1) * wide] = 1
    np.testing.assert_array_equal(to_pixels(one_hot(*case), expected.shape), expected)


@given(grids_and_patch(), st.integers(0, 30), st.integers(0, 30), st.booleans())
def test_smooth_maps_peak_inside_the_patch_and_are_not_negative(case, more, even_more, cubic):
    grid, row, column = case
    size = (grid[0] + more, grid[1] + even_more)
    pixels = to_pixels(one_hot(*case), size, "bicubic" if cubic else "bilinear")
    top, left = np.unravel_index(pixels.argmax(), size)
    assert pixels.min() >= 0
    assert (int((top + 0.5) * grid[0] / size[0]), int((left + 0.5) * grid[1] / size[1])) == (
        row,
        column,
    )


@pytest.mark.parametrize("size", [(7, 11), (14, 11), (33, 50)])
def test_bilinear_equals_torch(size):
    map = RNG.random((7, 11))
    reference = interpolate(torch.from_numpy(map)[None, None], size, mode="bilinear")[0, 0]
    np.testing.assert_allclose(to_pixels(map, size, "bilinear"), reference.numpy(), atol=1e-12)


def test_bicubic_equals_pillow_away_from_the_edges():
    # Both are Keys' cubic with a = -1/2. Pillow drops the taps beyond an edge, here it repeats.
    map = RNG.random((9, 12)).astype(np.float32)
    reference = np.asarray(Image.fromarray(map).resize((60, 45), Image.Resampling.BICUBIC))
    inner = np.s_[10:-10, 10:-10]
    pixels = to_pixels(map, (45, 60), "bicubic")
    np.testing.assert_allclose(pixels[inner], np.maximum(reference, 0)[inner], atol=1e-5)


@given(
    SIDE,
    SIDE,
    st.integers(1, 20),
    st.integers(1, 20),
    st.sampled_from(["nearest", "bilinear", "bicubic"]),
)
def test_a_constant_map_stays_constant(h, w, height, width, mode):
    np.testing.assert_allclose(to_pixels(np.full((h, w), 0.3), (height, width), mode), 0.3)


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
def test_a_picture_coarser_than_the_grid_shows_the_mean_of_every_patch(mode):
    map = RNG.random((12, 9))
    blocks = map.reshape(4, 3, 3, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(to_pixels(map, (4, 3), mode), blocks)
    np.testing.assert_allclose(to_pixels(map, (5, 7), mode).mean(), map.mean())


def test_the_map_is_not_modified_and_signs_are_kept():
    map = RNG.standard_normal((4, 6))
    before = map.copy()
    pixels = to_pixels(map, (32, 48), "bicubic")
    np.testing.assert_array_equal(map, before)
    assert map.min() <= pixels.min() < 0


@pytest.mark.parametrize("bad", [np.zeros(4), np.zeros((0, 3)), np.full((2, 2), np.nan)])
def test_what_is_no_finite_grid_is_refused(bad):
    with pytest.raises(ValueError, match="map"):
        to_pixels(bad, (8, 8))


def test_an_empty_picture_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        to_pixels(np.ones((2, 2)), (0, 8))


@given(st.data(), st.integers(1, 12), st.integers(1, 12), SIDE, SIDE)
def test_coverage_is_exact_by_area(data, height, width, h, w):
    flat = data.draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    mask = np.array(flat).reshape(height, width)
    if not mask.any():
        mask[0, 0] = True
    # Cut every pixel into h x w parts: then each patch holds a whole number of parts.
    parts = np.kron(mask, np.ones((h, w)))
    blocks = parts.reshape(h, height, w, width).sum(axis=(1, 3)) / parts.sum()
    np.testing.assert_allclose(patch_coverage(mask, (h, w)), blocks, atol=1e-12)


def test_coverage_counts_what_the_network_saw():
    """The network sees rows 2 to 6 and columns 1 to 5 of 8 x 6 pixels, as 2 x 2 patches."""
    placement = Placement((8, 6), (2.0, 1.0, 6.0, 5.0))
    mask = np.zeros((8, 6), dtype=bool)
    mask[1:4, 2:6] = True  # of 12 pixels the network sees 2 x 3
    assert placement.seen_pixels(mask) == 6
    np.testing.assert_allclose(patch_coverage(mask, (2, 2), placement), [[2 / 6, 4 / 6], [0, 0]])
    # Half a pixel at the left border and a whole one beside it.
    shifted = Placement((8, 6), (2.0, 2.5, 6.0, 6.5))
    assert shifted.seen_pixels(mask) == 7
    np.testing.assert_allclose(patch_coverage(mask, (2, 2), shifted), [[4 / 7, 3 / 7], [0, 0]])


@given(st.data(), st.integers(1, 12), st.integers(1, 12), SIDE, SIDE)
def test_coverage_of_a_crop_is_that_of_the_mask_cut_out(data, height, width, h, w):
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=400, max_size=400))).reshape(20, 20)
    top, left = data.draw(st.integers(0, 20 - height)), data.draw(st.integers(0, 20 - width))
    cut = mask[top : top + height, left : left + width]
    box = (float(top), float(left), float(top + height), float(left + width))
    placement = Placement((20, 20), box)
    assert placement.seen_pixels(mask) == pytest.approx(cut.sum(), abs=1e-9)
    if cut.any():
        found = patch_coverage(mask, (h, w), placement)
        np.testing.assert_allclose(found, patch_coverage(cut, (h, w)), atol=1e-12)
        assert found.sum() == pytest.approx(1)


def test_a_region_out_of_sight_and_one_of_another_size_are_refused():
    placement = Placement((8, 6), (2.0, 1.0, 6.0, 5.0))
    mask = np.zeros((8, 6), dtype=bool)
    mask[:2] = True  # ends where the network's picture starts
    assert placement.seen_pixels(mask) == 0
    with pytest.raises(DataError, match=r"wholly outside the network's picture, \(2.0, 1.0"):
        patch_coverage(mask, (2, 2), placement)
    with pytest.raises(DataError, match="the region is 6 x 8 and the image 8 x 6 pixels"):
        patch_coverage(mask.T.copy(), (2, 2), placement)


def test_coverage_refuses_an_empty_region_and_numbers():
    with pytest.raises(DataError, match="empty"):
        patch_coverage(np.zeros((8, 8), dtype=bool), (2, 2))
    with pytest.raises(ValueError, match="bool"):
        patch_coverage(np.ones((8, 8)), (2, 2))


def test_a_centre_crop_lies_on_its_part_of_the_original():
    placement = Placement.center_crop((224, 384), 224, 224)
    pixels = placement.project(one_hot((14, 14), 3, 5))
    expected = np.zeros((224, 384))
    expected[48:64, 160:176] = 1
    np.testing.assert_array_equal(pixels, expected)


def test_nothing_lies_outside_the_crop():
    pixels = Placement.center_crop((224, 384), 224, 224).project(np.ones((14, 14)), "bicubic")
    assert np.all(pixels[:, 80:304] > 0)
    assert not pixels[:, :80].any()
    assert not pixels[:, 304:].any()


def test_a_letterbox_loses_the_padding_and_keeps_the_rest():
    # 100 x 200 becomes 32 x 64 in the middle of 64 x 64: two rows of patches of padding on top.
    placement = Placement.letterbox((100, 200), (64, 64))
    assert not placement.project(one_hot((8, 8), 1, 3)).any()
    pixels = placement.project(one_hot((8, 8), 2, 3))
    expected = np.zeros((100, 200))
    expected[:25, 75:100] = 1
    np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("size", [(37, 53), (53, 37), (100, 41), (64, 64), (333, 500)])
@pytest.mark.parametrize(("resize", "crop"), [(36, 32), (33, 30), (40, (32, 48)), (32, 45)])
def test_the_crop_is_where_torchvision_puts_it(size, resize, crop):
    box = Placement.center_crop(size, resize, crop).box
    for axis, (start, stop) in enumerate([(box[0], box[2]), (box[1], box[3])]):
        # A picture whose values are the coordinates of its pixel centres, then what is left of it.
        centres = torch.arange(size[axis], dtype=torch.float64) + 0.5
        ramp = (centres[:, None] if axis == 0 else centres[None, :]).expand(size)[None] + 1000
        cropped = vision.center_crop(vision.resize(ramp, [resize], antialias=False), _pair(crop))[0]
        found = cropped.amax(dim=1 - axis).numpy() - 1000
        count = len(found)
        expected = start + (np.arange(count) + 0.5) * (stop - start) / count
        inside = (expected > 1) & (expected < size[axis] - 1)
        assert inside.sum() > 20
        np.testing.assert_allclose(found[inside], expected[inside], atol=1e-6)


def _pair(crop: int | tuple[int, int]) -> list[int]:
    return [crop, crop] if isinstance(crop, int) else list(crop)


def test_a_scaled_placement_shows_the_same():
    placement = Placement((30, 50), (2.0, 5.0, 26.0, 45.0))
    map = RNG.random((6, 8))
    twice = placement.scaled((60, 100)).project(map)
    np.testing.assert_array_equal(twice, placement.project(map).repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize("box", [(5.0, 0.0, 5.0, 9.0), (0.0, 9.0, 5.0, 0.0)])
def test_an_empty_box_is_refused(box):
    with pytest.raises(ValueError, match="box"):
        Placement((10, 10), box)
