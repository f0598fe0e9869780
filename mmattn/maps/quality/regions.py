"""How well maps fall on a region, for any number of maps at once.

Every function takes maps [..., h, w] and one region, bool [h, w], and returns [...]. By the patch,
the region is what `grounding.hit_patches` makes of a mask of pixels; by the pixel, draw the maps at
the size of the mask first (`geometry.to_pixels`). A perfect map (large inside, small outside) gets
1 everywhere, an inverted one 0, and a uniform map chance, which each function names.
"""

import numpy as np

from mmattn.errors import DataError
from mmattn.maps.quality.ranks import midranks


def pointing(maps: np.ndarray, region: np.ndarray) -> np.ndarray:
    """The pointing game (Zhang et al. 2016): 1 where the largest value lies in the region, else 0.

    Where several places share the largest value, the fraction of them that lie in the region.
    Chance is the region's share of the places.
    """
    values, inside = flattened(maps, region)
    best = values == values.max(-1, keepdims=True)
    return np.asarray((best & inside).sum(-1) / best.sum(-1))


def energy(maps: np.ndarray, region: np.ndarray) -> np.ndarray:
    """The share of the map's mass that lies in the region (Wang et al. 2020).

    Of a signed map, the mass of its positive part. A map without mass (all attention was on prefix
    tokens) says nothing and counts as uniform. Chance is the region's share of the places.
    """
    values, inside = flattened(maps, region)
    mass = values.clip(0)
    total = mass.sum(-1)
    return np.where(total > 0, mass[..., inside].sum(-1) / _not_zero(total), inside.mean())


def iou_at_mean(maps: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Intersection over union of the region and the places that reach the map's mean.

    The threshold of Chefer et al. (2021). A uniform map reaches its mean everywhere, so chance is
    the region's share of the places.
    """
    values, inside = flattened(maps, region)
    # The slack keeps rounding out of it: the mean of equal numbers need not equal them.
    slack = 1e-9 * np.abs(values).max(-1, keepdims=True)
    chosen = values >= values.mean(-1, keepdims=True) - slack
    return np.asarray((chosen & inside).sum(-1) / (chosen | inside).sum(-1))


def roc_auc(maps: np.ndarray, region: np.ndarray) -> np.ndarray:
    """The area under the ROC curve of the map's values as scores for "in the region".

    That is the probability that a place in the region has a larger value than one outside it, where
    a tie counts one half (Mann and Whitney 1947). Chance is 0.5; NaN for a region that is
    everything.
    """
    values, inside = flattened(maps, region)
    count = int(inside.sum())
    if count == inside.size:
        return np.full(values.shape[:-1], np.nan)
    above = midranks(values)[..., inside].sum(-1) - count * (count + 1) / 2
    return np.asarray(above / (count * (inside.size - count)))


def dilated(region: np.ndarray, tolerance: int) -> np.ndarray:
    """The places within `tolerance` rows and columns of the region, bool [h, w]."""
    if tolerance < 0:
        raise ValueError(f"tolerance is a number of patches, at least 0, got {tolerance}")
    rows, columns = np.nonzero(region)
    near = np.zeros_like(region)
    for row, column in zip(rows, columns, strict=True):
        top, left = max(0, row - tolerance), max(0, column - tolerance)
        near[top : row + tolerance + 1, left : column + tolerance + 1] = True
    return near


def flattened(maps: np.ndarray, region: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return maps and region with their places on one axis: float64 [..., h·w] and bool [h·w].

    Raises `ValueError` where the sizes differ or a value is not finite, `DataError` for an empty
    region.
    """
    maps, region = np.asarray(maps, dtype=np.float64), np.asarray(region)
    if region.ndim != 2 or region.dtype != np.bool_:
        raise ValueError(f"a region is bool [h, w], got {region.dtype} {region.shape}")
    if maps.shape[-2:] != region.shape:
        raise ValueError(
            f"the region is {_by(region.shape)} and the maps are {_by(maps.shape[-2:])}: compare "
            f"by the patch (hit_patches) or by the pixel (to_pixels)"
        )
    if not region.any():
        raise DataError(f"the region is empty: none of its {_by(region.shape)} places is set")
    if not np.isfinite(maps).all():
        raise ValueError(f"{np.count_nonzero(~np.isfinite(maps))} values are NaN or infinite")
    return maps.reshape(*maps.shape[:-2], -1), region.ravel()


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _not_zero(total: np.ndarray | np.floating) -> np.ndarray:
    return np.where(total > 0, total, 1)
