"""Does the map of a word fall on the thing it names? The pointing game and energy, with chance.

A patch is a *hit patch* if it holds at least a quarter of the region's pixels. Where no patch holds
that much (a region larger than a few patches), the hit patches are those with the largest share.

- Pointing game (Zhang et al. 2016): is the map's largest patch a hit patch?
- Energy (the energy-based pointing game of Wang et al. 2020): which share of the map's mass on
  patches lies on hit patches?

A region is a mask of the original image. Where the network's picture is a part of that, the region
is what this part shows of it; a region that it does not show has no hit patch and is refused.

Chance is what the uniform map gets, and it gets exactly that: for both, the hit patches' share of
all patches.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmattn.maps.geometry import Placement, checked_map, patch_coverage
from mmattn.maps.quality.regions import dilated, energy, pointing


@dataclass(frozen=True)
class Grounding:
    """How well one map falls on one region.

    `hit` is 1 if the largest patch is a hit patch and 0 if not; where several patches share the
    largest value it is the fraction of them that are. `energy` is the share of the map's mass on
    hit patches, and `chance` what a uniform map has there. `pointing_chance` is the `hit` of a
    uniform map: equal to `chance`, unless a tolerance makes the pointing game easier.
    """

    hit: float
    energy: float
    chance: float
    pointing_chance: float


def hit_patches(
    mask: np.ndarray,
    grid: tuple[int, int],
    share: float = 0.25,
    placement: Placement | None = None,
) -> np.ndarray:
    """Return bool [h, w]: the patches that hold at least `share` of the mask's pixels.

    Where none does, those with the largest share. `mask` is bool [height, width]; `placement` says
    which part of it the network's picture shows, all of it if None. Raises `DataError` for a mask
    without a pixel there, or of another size than the placement's image.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share is in (0, 1], got {share}")
    coverage = patch_coverage(mask, grid, placement)
    # The slack keeps rounding out of it where borders cut pixels.
    return coverage >= min(share, float(coverage.max())) - 1e-9


def ground(
    map: np.ndarray,
    mask: np.ndarray,
    share: float = 0.25,
    tolerance: int = 0,
    placement: Placement | None = None,
) -> Grounding:
    """Play the pointing game with a map [h, w] and a region: bool mask [height, width].

    `share`, `placement` and the errors are those of `hit_patches`, with a `ValueError` for a map
    that is not finite or has a negative value.

    The map need not be normalised. With `tolerance` = n the largest patch may be up to n patches,
    also diagonally, from a hit patch; energy and its chance know no tolerance. A map of zeros (all
    attention was on prefix tokens) says nothing and counts as uniform.
    """
    map = checked_map(map)
    if map.min() < 0:
        raise ValueError(f"a map to ground has no negative values, got {map.min():.3g}")
    hits = hit_patches(mask, map.shape, share, placement)
    allowed = dilated(hits, tolerance)
    return Grounding(
        hit=float(pointing(map, allowed)),
        energy=float(energy(map, hits)),
        chance=float(hits.mean()),
        pointing_chance=float(allowed.mean()),
    )


def totals(groundings: Sequence[Grounding]) -> np.ndarray:
    """Return [5], what `averages` needs: sums over words, which may be added up further."""
    rows = [(g.hit, g.pointing_chance, g.energy, g.chance, 1.0) for g in groundings]
    return np.array(rows, dtype=np.float64).reshape(-1, 5).sum(0)


def averages(totals: Sequence[float] | np.ndarray) -> dict[str, float]:
    """Average over words: pointing, its chance, energy, its ratio to chance, and how many words.

    `energy_ratio` is mean energy / mean chance: 1 for uniform maps. Raises `ValueError` where
    there is nothing to average.
    """
    hit, pointing_chance, energy, chance, words = map(float, totals)
    if not words:
        raise ValueError("there is no grounding to average: no word had a region")
    return {
        "pointing": hit / words,
        "pointing_chance": pointing_chance / words,
        "energy": energy / words,
        "energy_ratio": energy / chance,
        "words": words,
    }
