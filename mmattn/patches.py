"""From pixels to patch embeddings: linear, per-patch network, convolutional stem, timm backbone.

`PatchEmbedding` says what they have in common.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn


class PatchEmbedding(nn.Module):
    """What the vision transformer needs to know: the width D, and the grid of an image."""

    dim: int

    @abstractmethod
    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return (rows, columns) of patches for an image of (height, width) pixels."""

    @abstractmethod
    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """Embed images."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Return the constructor's arguments, as plain values."""


def check_divides(size: tuple[int, int], patch: int) -> tuple[int, int]:
    """Return the patch grid of an image. Raises ValueError where the size does not divide."""
    height, width = size
    if height % patch or width % patch:
        raise ValueError(
            f"an image of {height}x{width} does not divide into patches of {patch}x{patch}: "
            f"resize it to multiples of {patch}, or change patch_size"
        )
    return height // patch, width // patch


class LinearPatches(PatchEmbedding):
    """One linear map of each patch's pixels (ViT, Dosovitskiy et al. 2021, eq. 1).

    Args:
        patch_size: side of a patch in pixels.
        dim: output width D.
        channels: colour channels of the image.
        hidden: if given, each patch goes through a network with one hidden layer of this width
            (GELU) instead of a single linear map. Patches still do not mix.
    """

    def __init__(self, patch_size: int, dim: int, *, channels: int = 3, hidden: int | None = None):
        super().__init__()
        self.patch_size, self.dim, self.hidden = patch_size, dim, hidden
        self.project = nn.Conv2d(channels, hidden or dim, patch_size, stride=patch_size)
        self.mix = nn.Sequential(nn.GELU(), nn.Conv2d(hidden, dim, 1)) if hidden else nn.Identity()

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return (rows, columns) of patches for an image of (height, width)."""
        return check_divides(size, self.patch_size)

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """Embed every patch."""
        self.grid((images.shape[-2], images.shape[-1]))
        return self.mix(self.project(images))

    def settings(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "patch_size": self.patch_size,
            "dim": self.dim,
            "channels": self.project.in_channels,
            "hidden": self.hidden,
        }


class ConvStem(PatchEmbedding):
    """A small convolutional stem (Xiao et al. 2021): 3x3 convolutions, then a 1x1 to the width.

    Args:
        channels_out: width of each convolution.
        strides: stride of each convolution; their product is the patch size.
        dim: output width D.
        channels: colour channels of the image.
    """

    def __init__(
        self, channels_out: Sequence[int], strides: Sequence[int], dim: int, *, channels: int = 3
    ):
        super().__init__()
        if len(channels_out) != len(strides):
            raise ValueError(
                f"channels_out has {len(channels_out)} entries and strides {len(strides)}: "
                "one of each per convolution"
            )
        self.dim, self.patch_size, self.channels = dim, 1, channels
        self.channels_out, self.strides = list(channels_out), list(strides)
        layers: list[nn.Module] = []
        for width, stride in zip(channels_out, strides, strict=True):
            layers += [nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(width), nn.ReLU()]
            channels, self.patch_size = width, self.patch_size * stride
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels, dim, 1))

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return (rows, columns) of patches for an image of (height, width)."""
        return check_divides(size, self.patch_size)

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """Embed the image; neighbouring patches share the pixels at their border."""
        self.grid((images.shape[-2], images.shape[-1]))
        return self.layers(images)

    def settings(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "channels_out": self.channels_out,
            "strides": self.strides,
            "dim": self.dim,
            "channels": self.channels,
        }
