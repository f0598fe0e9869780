"""Where a token stands: learned tables, sinusoids, and rotary turns in one or two dimensions."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class Rotation(NamedTuple):
    """The cosines and sines by which rotary positions turn queries and keys, each [T, K/2]."""

    cos: Float[Tensor, "T half"]
    sin: Float[Tensor, "T half"]

    def to(self, device: torch.device) -> "Rotation":
        """Return the rotation on another device."""
        return Rotation(self.cos.to(device), self.sin.to(device))


def rotate(x: Float[Tensor, "B H T K"], rotation: Rotation | None) -> Float[Tensor, "B H T K"]:
    """Turn each pair (x[i], x[i + K/2]) by its angle (RoPE, Su et al. 2021); None turns nothing."""
    if rotation is None:
        return x
    cos, sin = rotation.cos.to(x.dtype), rotation.sin.to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def frequencies(count: int, base: float = 10_000.0) -> Float[Tensor, "count"]:
    """Return `count` angular speeds from 1 down to about 1/base, evenly spaced in the logarithm."""
    return base ** (-torch.arange(count, dtype=torch.float32) / count)


def text_rotation(length: int, head_dim: int, start: int = 0) -> Rotation:
    """Return the rotation of positions start … start + length - 1 in a text.

    Raises ValueError where the head width is odd.
    """
    if head_dim % 2:
        raise ValueError(f"rotary positions need an even head width; it is {head_dim}")
    places = torch.arange(start, start + length, dtype=torch.float32)
    angles = places[:, None] * frequencies(head_dim // 2)
    return Rotation(angles.cos(), angles.sin())


def image_rotation(grid: tuple[int, int], head_dim: int, prefix: int = 0) -> Rotation:
    """Return the axial rotation of a grid: half of each head turns with y, half with x.

    Prefix tokens stand nowhere and are not turned. Raises ValueError where the head width does not
    divide by four.
    """
    if head_dim % 4:
        raise ValueError(f"2-D rotary positions need a head width divisible by 4, not {head_dim}")
    speeds = frequencies(
        head_dim // 4, base=100.0
    )  # images are tens of patches wide, not thousands
    rows, columns = (torch.arange(n, dtype=torch.float32)[:, None] * speeds for n in grid)
    height, width = grid
    y = rows[:, None].expand(height, width, -1)
    x = columns[None].expand(height, width, -1)
    angles = F.pad(torch.cat([y, x], dim=-1).flatten(0, 1), (0, 0, prefix, 0))
    return Rotation(angles.cos(), angles.sin())


def sinusoids(length: int, dim: int) -> Float[Tensor, "length dim"]:
    """Return sine and cosine position codes (Vaswani et al. 2017, section 3.5)."""
    if dim % 2:
        raise ValueError(f"sinusoidal positions need an even width; it is {dim}")
    angles = torch.arange(length, dtype=torch.float32)[:, None] * frequencies(dim // 2)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def image_sinusoids(grid: tuple[int, int], dim: int) -> Float[Tensor, "S dim"]:
    """Return 2-D codes: half of the width tells the row, half the column (MAE, He et al. 2022)."""
    if dim % 4:
        raise ValueError(f"2-D sinusoidal positions need a width divisible by 4; it is {dim}")
    height, width = grid
    rows = sinusoids(height, dim // 2)[:, None].expand(height, width, -1)
    columns = sinusoids(width, dim // 2)[None].expand(height, width, -1)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1)


def resize_positions(
    table: Float[Tensor, "S D"], old: tuple[int, int], new: tuple[int, int]
) -> Float[Tensor, "S2 D"]:
    """Interpolate a learned position table from one patch grid to another (bicubic, antialiased).

    The same interpolation as timm's `resample_abs_pos_embed`, so that loaded weights give timm's
    outputs at any image size.
    """
    if old == new:
        return table
    image = table.float().view(1, *old, -1).permute(0, 3, 1, 2)
    image = F.interpolate(image, size=new, mode="bicubic", antialias=True)
    return image.permute(0, 2, 3, 1).reshape(math.prod(new), -1).to(table.dtype)


class LearnedPositions(nn.Module):
    """A learned table of text positions. Raises ValueError past its end, with both lengths."""

    def __init__(self, length: int, dim: int):
        super().__init__()
        self.table = nn.Parameter(torch.empty(length, dim))

    def forward(self, length: int, start: int = 0) -> Float[Tensor, "T D"]:
        """Return the codes of positions start … start + length - 1."""
        if start + length > len(self.table):
            raise ValueError(
                f"a text of {start + length} tokens is longer than max_length={len(self.table)}"
            )
        return self.table[start : start + length]
