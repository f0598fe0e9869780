"""Where the network's picture lies on the original image, read off the transform that made it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from mmattn.data.preprocessing import steps_of
from mmattn.data.transforms import CenterCropDown, ToNormalised
from mmattn.errors import ConfigError
from mmattn.maps.geometry import Placement, Size

Transform = Callable[[Tensor], Tensor]
Box = tuple[float, float, float, float]  # top, left, bottom, right
# What changes values and leaves every pixel where it is.
STAYS = (ToNormalised, v2.Normalize, v2.ToDtype, v2.ToImage, v2.ToPureTensor, v2.Grayscale)
STAYS = (*STAYS, v2.RGB, v2.Identity, nn.Identity)


def placement_of(transform: Transform, size: Size) -> Placement:
    """Return which part of an image of `size` = (height, width) a transform shows the network.

    Understands any sequence of Resize and centre crops among steps that move nothing.
    Raises ConfigError for a step of which the geometry is not known: a map drawn in the wrong place
    would look like an answer.
    """
    resized, box = size, (0.0, 0.0, float(size[0]), float(size[1]))
    for step in steps_of(transform):
        if isinstance(step, STAYS):
            continue
        if isinstance(step, v2.Resize):
            resized = resized_to(step, resized)
        elif isinstance(step, (v2.CenterCrop, CenterCropDown)):
            box = within(box, resized, crop_box(step, resized))
            resized = crop_size(step)
        else:
            raise ConfigError(
                f"data.eval_transform: where {type(step).__name__} puts the pixels is not known, "
                "so attention cannot be drawn on the original image; use Resize and CenterCrop, or "
                "callbacks=none"
            )
    return Placement(size, box)


@dataclass(frozen=True)
class PlacedRegion:
    """A region of the original image, bool [height, width], and which part the network saw."""

    mask: np.ndarray
    placement: Placement


def seen_regions(
    regions: Mapping[str, np.ndarray], transform: Transform
) -> dict[str, PlacedRegion]:
    """Return the regions, word -> mask, that the network's picture shows at least a part of.

    Raises ConfigError as `placement_of` does.
    """
    placed = {
        word: PlacedRegion(mask, placement_of(transform, (mask.shape[0], mask.shape[1])))
        for word, mask in regions.items()
    }
    return {word: r for word, r in placed.items() if r.placement.seen_pixels(r.mask) > 0}


def crop_size(step: v2.CenterCrop | CenterCropDown) -> Size:
    """Return the (height, width) that a centre crop cuts out."""
    size: Any = step.size  # torchvision makes a pair of what it declares as one
    return size[0], size[-1]


def crop_box(step: v2.CenterCrop | CenterCropDown, size: Size) -> Box:
    """Return what a centre crop cuts out of a picture of `size`; beyond its edges where it pads."""
    crop = crop_size(step)
    if isinstance(step, v2.CenterCrop):
        return Placement.center_crop(size, size, crop).box
    top, left = (
        (have - want) // 2 if have >= want else -((want - have) // 2)
        for have, want in zip(size, crop, strict=True)
    )
    return float(top), float(left), float(top + crop[0]), float(left + crop[1])


def resized_to(step: v2.Resize, size: Size) -> Size:
    """Return the size that torchvision's Resize gives an image of `size`."""
    height, width = step(torch.empty(1, *size, device="meta")).shape[-2:]  # computes no pixel
    return height, width


def within(box: Box, size: Size, inner: Box) -> Box:
    """Return `inner`, in pixels of a picture of `size` that shows `box`, in original pixels."""
    top, left, bottom, right = box
    rows, columns = (bottom - top) / size[0], (right - left) / size[1]
    return (
        top + inner[0] * rows,
        left + inner[1] * columns,
        top + inner[2] * rows,
        left + inner[3] * columns,
    )
