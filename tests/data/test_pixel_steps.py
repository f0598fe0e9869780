"""Transforms applied the lean way, beside the same transforms called as they are: the same bits."""

import pytest
import torch
from torch import nn
from torchvision.transforms import v2

from mmattn.data.augment import keyed_rng
from mmattn.data.pixel_steps import PixelSteps
from mmattn.data.transforms import ToNormalised
from mmattn.errors import ConfigError

NORMALISED = ToNormalised([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
NEAREST, BICUBIC = v2.InterpolationMode.NEAREST, v2.InterpolationMode.BICUBIC


def noise(height, width, *, packed=True):
    pixels = torch.randint(0, 256, (height, width, 3), dtype=torch.uint8).permute(2, 0, 1)
    return pixels if packed else pixels.contiguous()


PIPELINES = [
    [v2.RandomResizedCrop(24), v2.RandomHorizontalFlip(), NORMALISED],
    [v2.RandomResizedCrop((20, 31), scale=(0.6, 1.0), antialias=True), NORMALISED],
    [v2.RandomResizedCrop(24, antialias=False), NORMALISED],
    [v2.RandomResizedCrop(24, interpolation=BICUBIC), v2.RandomHorizontalFlip(1.0), NORMALISED],
    [v2.RandomResizedCrop(24, interpolation=NEAREST), NORMALISED],
    [v2.RandomResizedCrop(24, ratio=(5.0, 6.0)), NORMALISED],
    [v2.Compose([v2.RandomHorizontalFlip()]), v2.RandomCrop(20), v2.ColorJitter(0.4), NORMALISED],
    [v2.Resize((24, 24)), NORMALISED],
    [v2.RandomResizedCrop(24), v2.ToDtype(torch.float32, scale=True), v2.RandomErasing()],
    [NORMALISED],
]


def both(transform, images, seed):
    """The batch of the transform itself and of its lean twin, and the next number of each."""
    steps, drawn = PixelSteps(transform), []
    with keyed_rng() as reseed:
        for each in (transform, steps):
            reseed(seed)
            drawn.append([*(each(image) for image in images), torch.rand(1)])
    (*plain, a), (*lean, b) = drawn
    batch = steps.normalised(lean)
    return torch.stack(plain), torch.stack(lean) if batch is None else batch, a, b


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("steps", PIPELINES, ids=lambda s: "-".join(type(x).__name__ for x in s))
def test_the_same_draws_and_the_same_bits(steps, packed):
    images = [noise(40 + i, 56 - i, packed=packed) for i in range(4)]
    if len(steps) == 1:
        images = images[:1] * 4
    for seed in range(5):
        plain, lean, a, b = both(v2.Compose(steps), images, seed)
        assert lean.dtype == torch.float32
        assert torch.equal(plain, lean)
        assert torch.equal(a, b)


def test_what_is_usual_is_done_the_lean_way():
    """The comparison above would pass without any lean step."""
    steps = PixelSteps(v2.Compose(PIPELINES[0]))
    assert not any(isinstance(step, nn.Module) for step in steps._steps)


def test_a_single_crop_of_the_whole_picture_is_no_view_of_it():
    """A cached picture must never be written to, whatever a later step does in place."""
    image = noise(24, 24)
    kept = image.clone()
    out = PixelSteps(v2.RandomResizedCrop(24, scale=(1.0, 1.0), ratio=(1.0, 1.0)))(image)
    assert torch.equal(out, image)
    out.zero_()
    assert torch.equal(image, kept)


def test_subclasses_and_foreign_steps_are_called_as_they_are():
    class Mine(v2.RandomResizedCrop):
        def forward(self, image):
            return image[:, :5, :5]

    class Twice(v2.Compose):
        def forward(self, image):
            return super().forward(super().forward(image))

    image = noise(40, 40)
    assert torch.equal(PixelSteps(nn.Sequential(Mine(24)))(image), image[:, :5, :5])
    quarter = Twice([v2.Lambda(lambda x: x[:, ::2, ::2]), v2.Identity()])
    assert PixelSteps(quarter)(image).shape == (3, 10, 10)


def test_what_is_no_batch_of_bytes_is_left_to_the_caller():
    steps = PixelSteps(NORMALISED)
    assert steps.normalised([noise(4, 4), noise(4, 5)]) is None
    assert steps.normalised([torch.rand(3, 4, 4)]) is None
    assert PixelSteps(v2.Identity()).normalised([noise(4, 4)]) is None


def test_a_deviation_of_zero_is_refused():
    with pytest.raises(ConfigError, match=r"std=.*zero"):
        ToNormalised([0.5] * 3, [0.5, 0.0, 0.5])
