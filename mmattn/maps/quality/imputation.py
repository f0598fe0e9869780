"""Filling holes in pictures with what is around them: ROAD's noisy linear imputation."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def impute(
    image: Float[Tensor, "C height width"],
    missing: Bool[Tensor, "K height width"],
    *,
    noise: float = 0.01,
    seed: int = 0,
    tolerance: float = 1e-3,
) -> Float[Tensor, "K C height width"]:
    """Return K copies of the image, each with its missing pixels imputed.

    A missing pixel becomes the weighted mean of its neighbours, missing ones included: a linear
    system, solved here by conjugate gradients for all copies at once, to a residual of `tolerance`
    of its right-hand side. Then normal noise with standard deviation `noise` is added, which hides
    where the holes were. Raises ValueError for a copy without a single known pixel.
    """
    if bool(missing.flatten(1).all(1).any()):
        raise ValueError("nothing is left to impute from: keep at least one pixel")
    holes = missing[:, None].to(image.dtype)
    known = image * (1 - holes)
    filled = known + holes * _solve(holes, _neighbours(known) * holes, tolerance)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(filled.shape, generator=generator).to(filled)
    return filled + holes * noise * drawn


def _solve(holes: Tensor, wanted: Tensor, tolerance: float) -> Tensor:
    """Solve A·x = wanted on the holes, where A·x = (weights' sum)·x - (weighted neighbours).

    A is symmetric and, with a known pixel beside some hole, positive definite.
    """
    diagonal = _neighbours(torch.ones_like(holes))  # less at the image's edge
    x = torch.zeros_like(wanted)
    residual = wanted
    scaled = residual / diagonal
    direction, size = scaled, _dot(residual, scaled)
    enough = tolerance**2 * _dot(wanted, wanted)
    for _ in range(10 * int(holes[0].numel() ** 0.5) + 100):
        moved = (diagonal * direction - _neighbours(direction)) * holes
        step = _divide(size, _dot(direction, moved))
        x, residual = x + step * direction, residual - step * moved
        if bool((_dot(residual, residual) <= enough).all()):
            break
        scaled = residual / diagonal
        previous, size = size, _dot(residual, scaled)
        direction = scaled + _divide(size, previous) * direction
    return x


def _neighbours(pictures: Float[Tensor, "K C height width"]) -> Tensor:
    """Return the weighted sum over each pixel's neighbours; there are none outside the image.

    Direct neighbours weigh 1/6, diagonal ones 1/12 (Rong et al. 2022, section 4.2): that is
    (1 2 1)ᵀ·(1 2 1) / 12 without its middle, as two passes of sums.
    """
    rows = 2 * pictures
    rows[..., 1:, :] += pictures[..., :-1, :]
    rows[..., :-1, :] += pictures[..., 1:, :]
    both = 2 * rows
    both[..., 1:] += rows[..., :-1]
    both[..., :-1] += rows[..., 1:]
    return (both - 4 * pictures) / 12


def _dot(a: Tensor, b: Tensor) -> Float[Tensor, "K C 1 1"]:
    return (a * b).sum((-2, -1), keepdim=True)


def _divide(a: Tensor, b: Tensor) -> Tensor:
    """Divide; a system that is solved exactly has 0 / 0 and moves no more."""
    return torch.where(b > 0, a / b.clamp_min(torch.finfo(b.dtype).tiny), 0.0)
