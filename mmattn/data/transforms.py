"""The last step of every image transform: bytes to normalised numbers."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional


class ToNormalised(torch.nn.Module):
    """uint8 [3, h, w] -> float32: divided by 255, minus `mean`, over `std` (one each a channel)."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.mean, self.std = list(mean), list(std)

    def forward(self, image: Tensor) -> Tensor:
        """Convert and normalise one image."""
        image = functional.to_dtype(image, torch.float32, scale=True)
        return functional.normalize(image, self.mean, self.std)

    def extra_repr(self) -> str:
        """Show the values: a feature cache knows a transform by its text."""
        return f"mean={self.mean}, std={self.std}"
