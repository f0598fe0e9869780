"""On a model whose score is a sum over patches, every figure has a closed form."""

from functools import partial

import numpy as np
import pytest
import torch

from mmattn.maps.quality.perturbation import (
    PatchedImage,
    area,
    deletion,
    insertion,
    leave_one_out,
    patch_drops,
    places_in_order,
    road,
)

GRID = (2, 3)
VALUES = np.array([[5.0, 1.0, 3.0], [0.5, 4.0, 2.0]])  # what each patch adds to the score


def linear(images: torch.Tensor, values: np.ndarray = VALUES) -> torch.Tensor:
    """The sum over patches of value times the patch's mean brightness."""
    means = torch.nn.functional.adaptive_avg_pool2d(images.mean(1), GRID)
    return (means.double() * torch.tensor(values)).sum((-2, -1))


@pytest.fixture
def picture() -> PatchedImage:
    """A white picture: its score is the sum of all values."""
    return PatchedImage(torch.ones(3, 8, 12), GRID)


def test_deletion_of_a_linear_model_is_what_remains(picture):
    curve = deletion(linear, picture, VALUES)
    remaining = VALUES.sum() - np.cumsum([0, *sorted(VALUES.ravel(), reverse=True)])
    np.testing.assert_allclose(curve, remaining, atol=1e-6)
    # Σ_k v_(k) (k - 1/2) / S with the values in falling order: the trapezoid, patch by patch.
    closed = sum(v * (k + 0.5) for k, v in enumerate(sorted(VALUES.ravel(), reverse=True))) / 6
    assert area(curve) == pytest.approx(closed)


def test_insertion_into_nothing_is_its_mirror_image(picture):
    curve = insertion(linear, picture, VALUES, substrate="zero")
    np.testing.assert_allclose(curve, VALUES.sum() - deletion(linear, picture, VALUES), atol=1e-6)


def test_the_map_s_own_order_is_best_and_its_opposite_worst(picture):
    rng = np.random.default_rng(0)
    maps = [VALUES, *rng.random((20, *GRID)), -VALUES]
    areas = [area(deletion(linear, picture, map)) for map in maps]
    assert min(areas) == areas[0]
    assert max(areas) == areas[-1]
    gains = [area(insertion(linear, picture, map, substrate="zero")) for map in maps]
    assert max(gains) == gains[0]


def test_steps_end_with_all_patches(picture):
    curve = deletion(linear, picture, VALUES, step=4)
    np.testing.assert_allclose(curve, [15.5, 1.5, 0], atol=1e-6)
    with pytest.raises(ValueError, match="step=7"):
        deletion(linear, picture, VALUES, step=7)


def test_the_area_is_the_trapezoid():
    curve = np.random.default_rng(0).random(11)
    assert area(curve) == pytest.approx(np.trapezoid(curve, dx=1 / 10))
    assert area(np.ones(4)) == 1
    with pytest.raises(ValueError, match="at least 2"):
        area(np.ones(1))


def test_ties_are_drawn_by_lot():
    orders = [places_in_order(np.zeros((4, 4)), seed) for seed in (0, 0, 1)]
    assert orders[0].sort().values.tolist() == list(range(16))
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])
    assert orders[0].tolist() != list(range(16))
    assert places_in_order(VALUES, 0).tolist() == [0, 4, 2, 5, 1, 3]


def test_patches_hold_the_pixels_whose_centre_they_hold():
    cells = PatchedImage(torch.zeros(1, 5, 4), (2, 3)).cells
    # Rows change at 2.5: the third row's centre lies on the border and belongs below. Columns
    # change at 4/3 and 8/3, between the centres 0.5, 1.5, 2.5 and 3.5.
    assert cells.tolist() == [[0, 1, 1, 2]] * 2 + [[3, 4, 4, 5]] * 3


def test_substrates():
    image = torch.randn(3, 32, 48, generator=torch.Generator().manual_seed(0))
    picture = PatchedImage(image, (4, 6))
    assert not picture.substrate("zero").any()
    means = image.mean((1, 2))
    torch.testing.assert_close(picture.substrate("mean"), means[:, None, None].expand(3, 32, 48))
    blurred = picture.substrate("blur")
    assert blurred.shape == image.shape
    assert blurred.std() < 0.2 * image.std()


def test_a_picture_of_one_patch_can_be_blurred():
    assert PatchedImage(torch.ones(3, 4, 4), (1, 1)).substrate("blur").shape == (3, 4, 4)


def test_road_prefers_the_right_order():
    bright = torch.zeros(3, 40, 40)
    bright[:, 10:20, 10:20] = 1  # the patch (2, 2) of 8 x 8 pixel patches, and some around it
    picture = PatchedImage(bright, (5, 5))

    def score(images):
        return images[:, :, 10:20, 10:20].mean((1, 2, 3))

    right = np.zeros((5, 5))
    right[1:3, 1:3] = [[4, 3], [2, 1]]
    assert road(score, picture, right) > 0.4
    assert road(score, picture, -right) < -0.4
    assert road(score, picture, right, seed=1) == road(score, picture, right, seed=1)


def test_road_of_a_map_and_of_its_negative_are_opposite(picture):
    forward = road(linear, picture, VALUES, noise=0.0)
    assert road(linear, picture, -VALUES, noise=0.0) == pytest.approx(-forward, abs=1e-6)
    with pytest.raises(ValueError, match="at least 2 patches"):
        road(linear, PatchedImage(torch.ones(3, 4, 4), (1, 1)), np.ones((1, 1)))


def test_each_patch_is_left_out_by_itself(picture):
    drops = patch_drops(linear, picture)
    np.testing.assert_allclose(drops, VALUES, atol=1e-6)
    none = patch_drops(linear, picture, substrate="mean")  # one colour: nothing changes
    np.testing.assert_allclose(none, 0, atol=1e-6)
    score = partial(linear, values=-VALUES)
    np.testing.assert_allclose(patch_drops(score, picture), -VALUES, atol=1e-6)


def test_leave_one_out_is_the_correlation_with_the_drops():
    maps = np.stack([VALUES, -VALUES, np.ones(GRID), VALUES**3])
    np.testing.assert_allclose(leave_one_out(maps, VALUES), [1, -1, 0, 1])
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(3, 2\)"):
        leave_one_out(maps, VALUES.T)
