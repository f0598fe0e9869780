"""Steps of image transforms: bytes to normalised numbers, and a centre crop."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from mmattn.errors import ConfigError


class ToNormalised(torch.nn.Module):
    """uint8 [3, h, w] -> float32: divided by 255, minus `mean`, over `std` (one each a channel).

    Raises ConfigError for a `std` of 0.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.mean, self.std = list(mean), list(std)
        if not all(self.std):
            raise ConfigError(f"ToNormalised: std={self.std} divides by zero: give other numbers")

    def forward(self, image: Tensor) -> Tensor:
        """Convert and normalise one image."""
        image = functional.to_dtype(image, torch.float32, scale=True)
        return functional.normalize(image, self.mean, self.std)

    def into(self, batch: Tensor, images: Sequence[Tensor]) -> None:
        """Write what `forward` makes of uint8 images, bit for bit, into float32 [n, 3, h, w].

        Image by image, with no tensor in between, so that all of it stays in the processor's cache.
        """
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (self.mean, self.std))
        for slot, image in zip(batch, images, strict=True):
            # Made to lie channel by channel first: turning bytes round is cheaper than floats.
            slot.copy_(image.contiguous()).mul_(1.0 / 255).sub_(mean).div_(std)

    def extra_repr(self) -> str:
        """Show the values: a feature cache knows a transform by its text."""
        return f"mean={self.mean}, std={self.std}"


class CenterCropDown(torch.nn.Module):
    """Cut out the middle (height, width); zeros around it where the picture is smaller.

    Where the two margins cannot be equal the first is the smaller one, as in Hugging Face's image
    processors. torchvision's `CenterCrop` rounds the first margin half to even.
    """

    def __init__(self, size: Sequence[int]):
        super().__init__()
        self.size = (size[0], size[1])

    def forward(self, image: Tensor) -> Tensor:
        """Crop one image [..., h, w]."""
        (height, width), (h, w) = self.size, image.shape[-2:]
        if h < height or w < width:
            image = functional.center_crop(image, [max(h, height), max(w, width)])
        top, left = (
            (have - want) // 2 for have, want in zip(image.shape[-2:], self.size, strict=True)
        )
        return functional.crop(image, top, left, height, width)

    def extra_repr(self) -> str:
        """Show the size."""
        return f"size={self.size}"
