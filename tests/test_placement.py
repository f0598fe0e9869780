import numpy as np
import pytest
import torch
from torch import nn
from torchvision.transforms import v2

from mmattn.data.transforms import CenterCropDown, ToNormalised
from mmattn.errors import ConfigError
from mmattn.placement import placement_of, seen_regions

NORMALISED = ToNormalised([0.5] * 3, [0.5] * 3)
TRANSFORMS = {
    "as it is": NORMALISED,
    "stretched": v2.Compose([v2.Resize([32, 48], antialias=True), NORMALISED]),
    "resized and cropped": v2.Compose(
        [v2.Resize(40, antialias=True), nn.Sequential(v2.CenterCrop(32)), NORMALISED]
    ),
    "cropped, resized, cropped": v2.Compose(
        [v2.CenterCrop((60, 50)), v2.Resize([64, 64], antialias=True), v2.CenterCrop(32)]
    ),
    "cropped as Hugging Face does": v2.Compose(
        [v2.Resize(41, antialias=True), CenterCropDown((32, 32)), NORMALISED]
    ),
}


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
@pytest.mark.parametrize("size", [(64, 96), (90, 61)])
def test_the_placement_is_where_the_transform_takes_its_pixels_from(transform, size):
    """A picture whose values are its own coordinates shows them at the corners of the result."""
    for axis in (0, 1):
        ramp = torch.arange(size[axis], dtype=torch.float32) + 0.5
        image = ramp[:, None] if axis == 0 else ramp[None]
        flat = strip_values(v2.Compose([transform]))
        seen = flat(image.expand(1, *size).clone())[0].double().numpy()
        box = placement_of(transform, size).box
        low, high = box[axis], box[axis + 2]
        cells = seen.shape[axis]
        centres = low + (np.arange(cells) + 0.5) * (high - low) / cells
        middle = seen.take(seen.shape[1 - axis] // 2, axis=1 - axis)
        inner = slice(2, -2)  # at the edges a resize repeats pixels
        assert middle[inner] == pytest.approx(centres[inner], abs=0.51)


@pytest.mark.parametrize("size", [(9, 12), (8, 11), (7, 4), (3, 20), (2, 3)])
@pytest.mark.parametrize("crop", [v2.CenterCrop([5, 6]), CenterCropDown((5, 6))])
def test_a_crop_is_placed_to_the_pixel_also_where_it_pads(crop, size):
    """Pixels hold their own number, from 1: what the box says is what is seen, zeros around it."""
    image = torch.arange(1, size[0] * size[1] + 1).view(1, *size)
    top, left, bottom, right = map(int, placement_of(crop, size).box)
    padded = nn.functional.pad(image, (9, 9, 9, 9))[0]
    assert torch.equal(crop(image)[0], padded[top + 9 : bottom + 9, left + 9 : right + 9])


def strip_values(step):
    """The transform without what changes values."""
    if isinstance(step, v2.Compose):
        return v2.Compose([strip_values(inner) for inner in step.transforms])
    return v2.Identity() if isinstance(step, ToNormalised) else step


def test_regions_that_the_network_sees_nothing_of_are_left_out():
    """Of 60 x 120 pixels it sees columns 30 to 90."""
    seen, cut, out = (np.zeros((60, 120), dtype=bool) for _ in range(3))
    seen[10:20, 40:50], cut[:, :35], out[:, 90:] = True, True, True
    transform = v2.Compose([v2.Resize(30, antialias=True), v2.CenterCrop(30), NORMALISED])
    found = seen_regions({"seen": seen, "out": out, "cut": cut}, transform)
    assert list(found) == ["seen", "cut"]
    assert found["cut"].mask is cut
    assert found["cut"].placement == placement_of(transform, (60, 120))
    assert found["cut"].placement.seen_pixels(cut) == 5 * 60


def test_a_step_of_unknown_geometry_is_refused():
    with pytest.raises(ConfigError, match="where RandomRotation puts the pixels is not known"):
        placement_of(v2.Compose([v2.RandomRotation(10), NORMALISED]), (32, 32))
