"""Where a patch lies in the picture: patch grids to pixels, and back to the original image.

A map is an array [h, w] with one value per patch, row-major, rows first. A picture has pixels
[height, width]. Both cover the same rectangle, so a patch need not hold a whole number of pixels.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from mmattn.errors import DataError

Mode = Literal["nearest", "bilinear", "bicubic"]
Size = tuple[int, int]


def patch_maps(attention: np.ndarray, grid: Size, prefix: int = 0) -> np.ndarray:
    """Cut the prefix tokens off the keys and lay the rest out as the patch grid.

    `attention` is [..., P + S] with the P = `prefix` tokens first, then S = h * w patches; the
    result is a view [..., h, w]. What it lacks to a sum of 1 is the mass on the prefix tokens.
    Raises `ValueError` where P + h * w is not the number of keys.
    """
    height, width = grid
    keys = attention.shape[-1]
    if prefix < 0 or keys != prefix + height * width:
        raise ValueError(
            f"attention has {keys} keys, but {prefix} prefix tokens and a {height} x {width} grid "
            f"make {prefix + height * width}; give the grid as (rows, columns) and every class or "
            f"register token as prefix"
        )
    return attention[..., prefix:].reshape(*attention.shape[:-1], height, width)


def to_pixels(map: np.ndarray, size: Size, mode: Mode = "nearest") -> np.ndarray:
    """Draw a map [h, w] at `size` = (height, width) pixels; returns float64 [height, width].

    `nearest` gives each pixel the value of the patch that holds its centre: a patch lights exactly
    its own rectangle. `bilinear` and `bicubic` (Keys 1981, a = -1/2) interpolate between patch
    centres, with edges repeated; where no patch is negative no pixel is, and a single lit patch
    peaks inside its own rectangle. Along an axis with fewer pixels than patches every mode
    averages over the pixel's area, so that no patch is lost. Raises `ValueError` for a map that is
    not a finite [h, w] array, an empty size or an unknown mode.
    """
    return Placement.resize(size).project(map, mode)


def patch_coverage(
    mask: np.ndarray, grid: Size, placement: "Placement | None" = None
) -> np.ndarray:
    """Return [h, w]: the share of the mask's pixels that each patch holds; it sums to 1.

    `mask` is boolean [height, width], of the original image. Of the pixels those count that the
    network's picture shows, as its `placement` says; all of them if None. A pixel that a border
    cuts counts for each side by its area there, so sizes need not divide. Raises `DataError` for a
    mask without a pixel there, or of another size than the image.
    """
    mask = np.asarray(mask)
    if mask.ndim != 2 or mask.dtype != np.bool_:
        raise ValueError(f"a region is a bool mask [height, width], got {mask.dtype} {mask.shape}")
    if not mask.any():
        raise DataError(f"the region is empty: no pixel of its {mask.shape} mask is set")
    placement = placement or Placement.resize((mask.shape[0], mask.shape[1]))
    seen = placement.seen_pixels(mask)
    if seen == 0:
        raise DataError(
            f"the region lies wholly outside the network's picture, {placement.box} (top, left, "
            f"bottom, right) of an image of {placement.size}: leave it out (seen_pixels)"
        )
    rows, columns = (
        _overlap(edges, cells) for edges, cells in zip(placement.edges(), grid, strict=True)
    )
    return rows.T @ mask.astype(np.float64) @ columns / seen


@dataclass(frozen=True)
class Placement:
    """Which part of the original image the network's picture shows.

    `size` is the original's (height, width) in pixels. `box` is (top, left, bottom, right) in the
    original's pixels, with fractions, and reaches beyond the image where the picture is padded.
    """

    size: Size
    box: tuple[float, float, float, float]

    def __post_init__(self):
        top, left, bottom, right = self.box
        if min(self.size) < 1 or not (top < bottom and left < right):
            raise ValueError(
                f"no placement has size {self.size} and box {self.box}: sizes are at least 1 and "
                f"the box is (top, left, bottom, right) with top < bottom and left < right"
            )

    @classmethod
    def resize(cls, size: Size) -> "Placement":
        """The whole original, stretched to the network's picture."""
        return cls(size, (0.0, 0.0, float(size[0]), float(size[1])))

    @classmethod
    def center_crop(cls, size: Size, resize: int | Size, crop: int | Size) -> "Placement":
        """The middle of the resized original, with torchvision's and timm's rounding.

        `resize` is the length of the shorter side, or (height, width). `crop` is one side or
        (height, width); a crop larger than the resized image is padded on both sides.
        """
        resized = _resized(size, resize)
        crop = (crop, crop) if isinstance(crop, int) else crop
        starts = tuple(_crop_start(r, c) for r, c in zip(resized, crop, strict=True))
        return cls._from_picture(size, resized, starts, crop)

    @classmethod
    def letterbox(cls, size: Size, picture: Size) -> "Placement":
        """The whole original at its own aspect ratio, centred in `picture` and padded."""
        scale = min(picture[0] / size[0], picture[1] / size[1])
        resized = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
        starts = (-((picture[0] - resized[0]) // 2), -((picture[1] - resized[1]) // 2))
        return cls._from_picture(size, resized, starts, picture)

    @classmethod
    def _from_picture(
        cls, size: Size, resized: Size, starts: tuple[int, ...], picture: Size
    ) -> "Placement":
        """Carry the picture's rectangle in the resized image back to the original's pixels."""
        edges = [
            (start * full / now, (start + length) * full / now)
            for start, length, full, now in zip(starts, picture, size, resized, strict=True)
        ]
        return cls(size, (edges[0][0], edges[1][0], edges[0][1], edges[1][1]))

    def scaled(self, size: Size) -> "Placement":
        """The same placement in a copy of the original that was resized to `size`."""
        rows, columns = size[0] / self.size[0], size[1] / self.size[1]
        top, left, bottom, right = self.box
        return Placement(size, (top * rows, left * columns, bottom * rows, right * columns))

    def project(self, map: np.ndarray, mode: Mode = "nearest") -> np.ndarray:
        """Lay a map [h, w] of the network's picture on the original: float64 `size`.

        Pixels whose centre the network did not see are 0. Patches that lie on padding fall outside
        the original: their mass is not in the result. Modes and errors are those of `to_pixels`.
        """
        map = checked_map(map)
        rows, columns = self.weights((map.shape[0], map.shape[1]), mode)
        # Bicubic weights dip below zero beside a peak: where no patch is negative, no pixel may be.
        return np.maximum(rows @ map @ columns.T, min(0.0, map.min()))

    def weights(self, grid: Size, mode: Mode) -> tuple[np.ndarray, np.ndarray]:
        """How much each row and column of patches counts for each of the original's pixels.

        Returns [height, h] and [width, w]; rows outside the network's picture are 0. Raises
        `ValueError` for an unknown mode.
        """
        rows, columns = self.edges()
        return _weights(rows, grid[0], mode), _weights(columns, grid[1], mode)

    def edges(self) -> tuple[np.ndarray, np.ndarray]:
        """Edges [height + 1] and [width + 1] of the original's pixels; the picture is 0..1."""
        (height, width), (top, left, bottom, right) = self.size, self.box
        return _pixel_edges(height, top, bottom), _pixel_edges(width, left, right)

    def seen_pixels(self, mask: np.ndarray) -> float:
        """How many pixels of a mask bool [height, width] the network's picture shows, by area.

        0 where that is less than a rounding error. Raises `DataError` for a mask of another size
        than the image.
        """
        if mask.shape != self.size:
            found, size = (" x ".join(map(str, shape)) for shape in (mask.shape, self.size))
            raise DataError(
                f"the region is {found} and the image {size} pixels (height x width): a region is "
                f"a mask of its image"
            )
        rows, columns = (_overlap(edges, 1)[:, 0] for edges in self.edges())
        seen = float(rows @ mask @ columns)
        return seen if seen > 1e-6 else 0.0


def checked_map(map: np.ndarray) -> np.ndarray:
    """Return a map as float64 [h, w]. Raises `ValueError` for another shape, NaN or infinity."""
    array = np.asarray(map, dtype=np.float64)
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"a map is [h, w] with at least one patch, got shape {array.shape}")
    if not np.isfinite(array).all():
        bad = np.count_nonzero(~np.isfinite(array))
        raise ValueError(f"{bad} of the map's {array.size} values are NaN or infinite")
    return array


def _resized(size: Size, resize: int | Size) -> Size:
    """The size after resizing to a shorter side (the longer one rounded down) or to a size."""
    if not isinstance(resize, int):
        return resize
    height, width = size
    if height <= width:
        return resize, int(resize * width / height)
    return int(resize * height / width), resize


def _crop_start(length: int, crop: int) -> int:
    """Where a centred crop starts; negative where it is padded because the image is shorter."""
    return round((length - crop) / 2) if length >= crop else -((crop - length) // 2)


def _pixel_edges(pixels: int, start: float, stop: float) -> np.ndarray:
    """Edges [pixels + 1] of an image's pixels, on an axis where start..stop becomes 0..1."""
    return (np.arange(pixels + 1) - start) / (stop - start)


def _weights(edges: np.ndarray, cells: int, mode: Mode) -> np.ndarray:
    """How much each cell counts for each pixel: [pixels, cells]; rows outside the picture are 0."""
    if mode not in get_args(Mode):
        raise ValueError(f"mode is one of {', '.join(get_args(Mode))}, not {mode!r}")
    # A hair of slack: a picture with one pixel per patch is not coarser than its grid.
    if (edges[1] - edges[0]) * cells > 1 + 1e-9:
        return _overlap(edges, cells)
    centres = (edges[:-1] + edges[1:]) / 2
    seen = (centres >= 0) & (centres < 1)
    return seen[:, None] * _sampled(centres * cells, cells, mode)


def _sampled(positions: np.ndarray, cells: int, mode: Mode) -> np.ndarray:
    """Weights [pixels, cells] at positions where cell i spans i..i+1; rows sum to 1."""
    if mode == "nearest":
        return np.eye(cells)[np.clip(np.floor(positions), 0, cells - 1).astype(int)]
    kernel = _triangle if mode == "bilinear" else _keys_cubic
    taps = np.floor(positions - 0.5).astype(int)[:, None] + np.arange(-1, 3)
    values = kernel(np.abs(positions[:, None] - 0.5 - taps))
    weights = np.zeros((len(positions), cells))
    # Taps beyond the edge add their weight to the edge cell: the edge is repeated.
    np.add.at(weights, (np.arange(len(positions))[:, None], np.clip(taps, 0, cells - 1)), values)
    return weights


def _overlap(edges: np.ndarray, cells: int) -> np.ndarray:
    """The share of each pixel's length that lies in each cell: [pixels, cells]."""
    borders = np.arange(cells + 1) / cells
    low = np.maximum(edges[:-1, None], borders[None, :-1])
    high = np.minimum(edges[1:, None], borders[None, 1:])
    return np.maximum(high - low, 0) / np.diff(edges)[:, None]


def _triangle(distance: np.ndarray) -> np.ndarray:
    return np.maximum(1 - distance, 0)


def _keys_cubic(distance: np.ndarray) -> np.ndarray:
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
