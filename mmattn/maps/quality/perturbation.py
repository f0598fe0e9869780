"""Does the model use what the map shows? Take patches away in the map's order and see.

- Deletion and insertion (Petsiuk et al. 2018, RISE): patches are taken away, or put into a blurred
  picture, the map's largest first; the area under the curve of the score is small, or large, where
  the map is right.
- ROAD (Rong et al. 2022): patches are replaced by what their neighbours suggest, so that the shape
  of the hole says nothing; most relevant first against least relevant first.
- Leave one patch out: does the score fall where the map is large?

A *score* is any function of pictures [M, C, height, width] to [M]; see `CaptionScorer`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from mmattn.maps.quality.imputation import impute
from mmattn.maps.quality.ranks import spearman

Score = Callable[[Tensor], Tensor]
Substrate = Literal["zero", "mean", "blur"]
ROAD_SHARES = tuple(percent / 100 for percent in range(10, 100, 10))


@dataclass(frozen=True)
class PatchedImage:
    """A picture as the model gets it, cut into the cells of a patch grid.

    `image` is [C, height, width]; a pixel belongs to the cell that holds its centre.
    """

    image: Float[Tensor, "C height width"]
    grid: tuple[int, int]

    @property
    def patches(self) -> int:
        """The number of patches S."""
        return self.grid[0] * self.grid[1]

    @cached_property
    def cells(self) -> Int[Tensor, "height width"]:
        """The number of the patch, row-major, that each pixel belongs to."""
        rows, columns = (
            ((torch.arange(pixels, device=self.image.device) + 0.5) * count / pixels).long()
            for pixels, count in zip(self.image.shape[-2:], self.grid, strict=True)
        )
        return rows[:, None] * self.grid[1] + columns[None]

    def substrate(self, kind: Substrate) -> Float[Tensor, "C height width"]:
        """Return what stands where a patch is taken away.

        `zero`: zeros, that is the mean colour of the usual normalisation. `mean`: the mean colour
        of this picture. `blur`: this picture under a Gaussian as wide as a patch (RISE: 5 of 224
        pixels), which leaves nothing of what one patch holds.
        """
        if kind not in get_args(Substrate):
            raise ValueError(f"substrate is {kind!r}; choose {', '.join(get_args(Substrate))}")
        if kind == "zero":
            return torch.zeros_like(self.image)
        if kind == "mean":
            return self.image.mean((-2, -1), keepdim=True).expand_as(self.image)
        sizes = tuple(self.image.shape[-2:])
        sigmas = [pixels / count for pixels, count in zip(sizes, self.grid, strict=True)]
        # Half the kernel must fit beside the picture that is mirrored at its edges.
        radii = [min(round(3 * s), pixels - 1) for s, pixels in zip(sigmas, sizes, strict=True)]
        kernel = [2 * radius + 1 for radius in reversed(radii)]
        return gaussian_blur(self.image, kernel, [max(s, 1e-3) for s in reversed(sigmas)])

    def pixels(self, patches: Bool[Tensor, "K S"]) -> Bool[Tensor, "K 1 height width"]:
        """Return the pixels of K choices of patches."""
        return patches.to(self.image.device)[:, self.cells][:, None]

    def replaced(
        self, patches: Bool[Tensor, "K S"], by: Float[Tensor, "C height width"]
    ) -> Float[Tensor, "K C height width"]:
        """Return K copies of the picture, each with its choice of patches replaced."""
        return torch.where(self.pixels(patches), by, self.image)


def places_in_order(map: np.ndarray, seed: int) -> Int[Tensor, "S"]:
    """Return the place of each patch in the map's order, largest first; ties are drawn by lot."""
    lot = np.random.default_rng(seed).random(map.size)
    order = np.lexsort((lot, -np.asarray(map, dtype=np.float64).ravel()))
    places = np.empty(map.size, dtype=np.int64)
    places[order] = np.arange(map.size)
    return torch.from_numpy(places)


def first_patches(places: Int[Tensor, "S"], counts: Sequence[int]) -> Bool[Tensor, "K S"]:
    """Return for each count the choice of that many first patches."""
    return places < torch.tensor(counts)[:, None]


def deletion(
    score: Score,
    picture: PatchedImage,
    map: np.ndarray,
    *,
    step: int = 1,
    substrate: Substrate = "zero",
    seed: int = 0,
) -> np.ndarray:
    """Return the score of the picture with 0, step, 2·step, … up to all patches taken away."""
    chosen = first_patches(places_in_order(map, seed), _counts(picture.patches, step))
    return _curve(score(picture.replaced(chosen, picture.substrate(substrate))))


def insertion(
    score: Score,
    picture: PatchedImage,
    map: np.ndarray,
    *,
    step: int = 1,
    substrate: Substrate = "blur",
    seed: int = 0,
) -> np.ndarray:
    """Return the score of a blurred picture with 0, step, … up to all patches put into it."""
    chosen = first_patches(places_in_order(map, seed), _counts(picture.patches, step))
    return _curve(score(picture.replaced(~chosen, picture.substrate(substrate))))


def area(curve: np.ndarray) -> float:
    """Return the area under a curve over 0..1: (sum - first/2 - last/2) / (n - 1), as in RISE."""
    if len(curve) < 2:
        raise ValueError(f"a curve has at least 2 points, got {len(curve)}")
    return float((curve.sum() - curve[0] / 2 - curve[-1] / 2) / (len(curve) - 1))


def road(
    score: Score,
    picture: PatchedImage,
    map: np.ndarray,
    *,
    noise: float = 0.01,
    seed: int = 0,
) -> float:
    """Return (LeRF - MoRF) / 2, the mean over 10 %, 20 %, … 90 % of patches removed.

    MoRF is the score with the map's most relevant patches removed, LeRF with the least relevant
    ones: right maps have a high LeRF and a low MoRF. Where patches were, noisy linear imputation
    puts what their neighbours suggest.
    """
    patches = picture.patches
    counts = [min(max(1, round(share * patches)), patches - 1) for share in ROAD_SHARES]
    if patches < 2:
        raise ValueError("ROAD needs at least 2 patches: one must stay to impute the others from")
    places = places_in_order(map, seed)
    most, least = first_patches(places, counts), first_patches(patches - 1 - places, counts)
    missing = picture.pixels(torch.cat([most, least]))[:, 0]
    scores = score(impute(picture.image, missing, noise=noise, seed=seed)).double()
    morf, lerf = scores.chunk(2)
    return float((lerf - morf).mean() / 2)


def patch_drops(
    score: Score, picture: PatchedImage, *, substrate: Substrate = "zero"
) -> np.ndarray:
    """Return by how much the score falls without each patch in turn, float64 [h, w].

    The score is usually a log-probability.
    """
    each = torch.eye(picture.patches, dtype=torch.bool)
    without = _curve(score(picture.replaced(each, picture.substrate(substrate))))
    return (_curve(score(picture.image[None])) - without).reshape(picture.grid)


def leave_one_out(maps: np.ndarray, drops: np.ndarray) -> np.ndarray:
    """Return Spearman's correlation of maps [..., h, w] with the drops [h, w] of `patch_drops`.

    A map, or a drop, that is the same everywhere has 0. Raises ValueError where the grids differ.
    """
    maps = np.asarray(maps)
    if maps.shape[-2:] != drops.shape:
        raise ValueError(f"the maps are {maps.shape[-2:]} and the drops {drops.shape} patches")
    return spearman(maps.reshape(*maps.shape[:-2], -1), drops.ravel())


def _counts(patches: int, step: int) -> list[int]:
    if not 1 <= step <= patches:
        raise ValueError(f"step={step}: take away 1 to {patches} patches at a time")
    return [*range(0, patches, step), patches]


def _curve(scores: Tensor) -> np.ndarray:
    return scores.double().cpu().numpy()
