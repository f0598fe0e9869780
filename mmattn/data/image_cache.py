"""Training images decoded once, made smaller and kept as bytes in a file mapped into memory.

A first epoch decodes every file as before; all others, of this run and of later ones, find the
pixels. An image whose shorter side is longer than `short_side` is resized to it, its shape kept, as
ImageNet's pipelines do it before they crop (256 pixels for crops of 224). So random crops see less
detail than the file has, where they show a small part of a large photo: the smaller the crops and
the larger the files, the larger `short_side` should be. Smaller images are kept as they are, and
training on them is the same to the bit.
"""

import hashlib
import json
import logging
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from rich.progress import track
from torch import Tensor
from torchvision.transforms.v2 import functional

from mmattn.data.dataset import CaptionDataset
from mmattn.data.file_lock import lock
from mmattn.errors import ConfigError, DataError, ReadError

log = logging.getLogger(__name__)
FORMAT = 1  # of the files; a cache of another is made anew
TOGETHER = 64  # images that are in memory while a cache is made
# 8/7 of the model's image size, rounded: 256 for 224, as usual.
MARGIN = 8 / 7
Stamp = list[Any]


def usual_short_side(image_size: tuple[int, int]) -> int:
    """Return the shorter side of cached images, in pixels, for a model of this (height, width)."""
    return round(max(image_size) * MARGIN)


class CachedImages:
    """A set of images, captioned or not, that are read from a file of a cache.

    An image that could not be decoded when the file was made is asked of the set itself, which
    raises as it always does.
    """

    def __init__(self, dataset: CaptionDataset, pixels: Path, rows: np.ndarray):
        self._dataset, self._pixels, self._rows = dataset, pixels, rows
        self._mapped: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self._dataset)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the mapping out: each process makes its own, and sends no pixels to others."""
        return self.__dict__ | {"_mapped": None}

    def key(self, index: int) -> str:
        """Return the image's name."""
        return self._dataset.key(index)

    def captions(self, index: int) -> tuple[str, ...]:
        """Return the image's captions."""
        return self._dataset.captions(index)

    def image(self, index: int) -> Tensor:
        """Return the image as uint8 RGB [3, height, width], which is not to be written to.

        It is the mapped memory itself. What is written reaches neither the file nor other
        processes, but this one would see it in every later epoch.
        """
        start, height, width = self._rows[index].tolist()
        if not height:
            return self._dataset.image(index)
        if self._mapped is None:
            self._mapped = np.memmap(self._pixels, np.uint8, "c")  # "r" would make torch warn
        flat = self._mapped[start : start + height * width * 3]
        return torch.from_numpy(flat).view(height, width, 3).permute(2, 0, 1)


class ImageCache:
    """Keeps the decoded images of whole data sets in a folder.

    A set has two files: `<hash>.rgb` holds the pixels, image after image, row by row, and
    `<hash>.npy` says where each image starts and how high and wide it is (height 0: unreadable).
    The hash is of the images' names, file times and sizes, and of the resizing, so that a changed
    photo or setting never meets old pixels. A file whose content was changed with its time and size
    kept is not noticed: delete the cache then.

    Several processes may ask at once: one makes the files while the others wait, or each makes them
    where the file system has no locks. They get their names when they are complete, pixels first;
    what an interrupted process left is made anew.

    Args:
        folder: where the files lie.
        short_side: the longest that an image's shorter side may be, in pixels.
        threads: that decode while a cache is made.

    Raises:
        ConfigError: `short_side` is below 1.
    """

    def __init__(self, folder: str | Path, short_side: int, threads: int = 1):
        if short_side < 1:
            raise ConfigError(f"data.image_cache_side={short_side} must be at least 1 pixel")
        self.folder, self.short_side, self.threads = Path(folder), short_side, max(1, threads)

    def __call__(self, dataset: CaptionDataset) -> CachedImages:
        """Return the set with its images in the cache, decoding them now if no file has them.

        Raises:
            ConfigError: the images are no files, or the cache cannot be written.
        """
        pixels = self.folder / f"{self._fingerprint(dataset)}.rgb"
        rows = complete_rows(pixels, len(dataset))
        if rows is None:
            rows = self._made(pixels, dataset)
        return CachedImages(dataset, pixels, rows)

    def _fingerprint(self, dataset: CaptionDataset) -> str:
        return fingerprint([FORMAT, "shorter side", self.short_side, "bilinear"], dataset, stamp)

    def _made(self, pixels: Path, dataset: CaptionDataset) -> np.ndarray:
        """Write both files, unless another process did so in the meantime; return the rows."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with pixels.with_suffix(".lock").open("a") as guard:
                alone = lock(guard, "the process that makes the image cache")
                rows = complete_rows(pixels, len(dataset))
                return self._write(pixels, dataset, alone) if rows is None else rows
        except OSError as error:
            raise ConfigError(
                f"data.image_cache: cannot keep {len(dataset):,} images in {self.folder}: "
                f"{error.strerror or error}. Free some space, name another folder, make "
                "data.image_cache_side smaller, or set data.image_cache=null"
            ) from error

    def _write(self, pixels: Path, dataset: CaptionDataset, alone: bool) -> np.ndarray:
        """Write both files. `alone`: no other process of this machine does so."""
        # A lock may not reach other machines, so each has an unfinished file of its own; without
        # one, each process. Written, not mapped: a full disk is then an error, where touching a
        # mapped page kills the process.
        owner = platform.node() if alone else f"{platform.node()}.{os.getpid()}"
        unfinished = pixels.with_name(f".{pixels.name}.{owner}.unfinished")
        try:
            with unfinished.open("wb") as file:
                rows = np.array(list(self._append_all(file, dataset)), np.int64).reshape(-1, 3)
                to_disk(file)
            unfinished.replace(pixels)
            with unfinished.open("wb") as file:
                np.save(file, rows, allow_pickle=False)
                to_disk(file)
            unfinished.replace(pixels.with_suffix(".npy"))
        finally:
            unfinished.unlink(missing_ok=True)
        size = pixels.stat().st_size / 2**20
        log.info("kept %d decoded images in %s, %.0f MiB", len(dataset), pixels, size)
        return rows

    def _append_all(
        self, file: IO[bytes], dataset: CaptionDataset
    ) -> Iterator[tuple[int, int, int]]:
        """Append every image to a file; yield where each starts, its height and its width."""
        starts = range(0, len(dataset), TOGETHER)
        with ThreadPoolExecutor(self.threads) as pool:
            for first in track(starts, f"decoding {len(dataset)} images", transient=True):
                part = range(first, min(first + TOGETHER, len(dataset)))
                for image in pool.map(self._decoder(dataset), part):
                    yield (file.tell(), *image.shape[:2])
                    file.write(image.data)

    def _decoder(self, dataset: CaptionDataset) -> Callable[[int], np.ndarray]:
        def decoded(index: int) -> np.ndarray:
            try:
                image = dataset.image(index)
            except ReadError:
                raise
            except DataError:
                return np.empty((0, 0, 3), np.uint8)
            if min(image.shape[1:]) > self.short_side:
                image = functional.resize_image(image, [self.short_side], antialias=True)
            return np.ascontiguousarray(image.permute(1, 2, 0).numpy())

        return decoded


def cache_as_set(
    folder: str | None, short_side: int | None, image_size: tuple[int, int], threads: int
) -> ImageCache | None:
    """Return the cache that data.image_cache and data.image_cache_side ask for; None for none.

    Raises:
        ConfigError: the side is below 1, or there is no folder that it could be for.
    """
    if folder is not None:
        side = usual_short_side(image_size) if short_side is None else short_side
        return ImageCache(folder, side, threads)
    if short_side is not None:
        raise ConfigError(
            f"data.image_cache_side={short_side} is for images that a cache keeps: name its folder "
            "with data.image_cache=…, or set data.image_cache_side=null"
        )
    return None


def complete_rows(pixels: Path, length: int) -> np.ndarray | None:
    """Return where the images of a cache lie, int64 [length, 3]; None unless it is all there."""
    try:
        rows = np.load(pixels.with_suffix(".npy"), allow_pickle=False)
        size = pixels.stat().st_size
    except (OSError, ValueError, EOFError):
        return None
    if rows.dtype != np.int64 or rows.shape != (length, 3):
        return None
    ends = rows[:, 0] + rows[:, 1] * rows[:, 2] * 3
    return rows if (ends[-1] if length else 0) == size else None


def fingerprint(
    parts: Sequence[Any], dataset: CaptionDataset, stamp_of: Callable[[CaptionDataset, int], Stamp]
) -> str:
    """Return a name for what is kept of a set: it changes when an image does, or one of `parts`."""
    images = [(dataset.key(i), stamp_of(dataset, i)) for i in range(len(dataset))]
    return hashlib.sha256(json.dumps([*parts, images]).encode()).hexdigest()[:32]


def stamp(dataset: Any, index: int) -> Stamp:
    """Return what changes when an image does: its file's time in nanoseconds, and size in bytes.

    A set whose images lie elsewhere than in files of their own has a method `stamp`. A file that is
    missing has no stamp; one that comes later does.

    Raises:
        ConfigError: the set has neither `stamp` nor `path`.
    """
    if hasattr(dataset, "stamp"):
        return list(dataset.stamp(index))
    if not hasattr(dataset, "path"):
        raise ConfigError(
            f"data.image_cache keeps images of files, and those of {type(dataset).__name__} are "
            "none, so that a changed one could not be told: set data.image_cache=null"
        )
    try:
        status = dataset.path(index).stat()
    except OSError:
        return []
    return [status.st_mtime_ns, status.st_size]


def to_disk(file: IO[bytes]) -> None:
    """Wait until what was written would outlive a loss of power."""
    file.flush()
    os.fsync(file.fileno())
