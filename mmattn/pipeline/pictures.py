"""Whatever a user calls images, as named pictures that are read when their turn comes."""

from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from functools import partial
from os import PathLike, fsdecode
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmattn.data.images import MAX_PIXELS, read_image
from mmattn.errors import DataError
from mmattn.pipeline.image_files import image_files
from mmattn.pipeline.in_memory import from_array, from_pil, from_tensor

# What holds its items whether or not the next one is asked for.
LASTING = (Sequence, Set, np.ndarray, Tensor)


class Picture(NamedTuple):
    """A picture by its name; `read` returns uint8 RGB [3, height, width] or raises DataError.

    place: among all pictures of a job, of which this may be a part; what is drawn when captions are
    sampled depends on it.
    """

    name: str
    read: Callable[[], Tensor]
    place: int


class Unreadable(NamedTuple):
    """A picture that cannot be read, and why."""

    name: str
    error: DataError


class Unplaced(NamedTuple):
    """A picture of which the place, and so maybe the name, is not known yet."""

    name: str
    read_as: Callable[[str], Tensor]  # given the name that messages use
    fleeting: bool = False  # it may change, or be closed, when the next one is asked for


def pictures(images: Any, *, max_pixels: int = MAX_PIXELS) -> Iterator[Picture]:
    """Yield the pictures that `images` means, in its order.

    Files are read when their turn comes; so are images, arrays and tensors of a list. What another
    iterable yields is read at once, for it may be gone when the next one is asked for.

    Args:
        images: a path; a folder, with those below it, in the order of their names; a pattern such
            as "photos/**/*.jpg"; a PIL image; an array [h, w], [h, w, 1], [h, w, 3] or [h, w, 4] of
            uint8, or of floats in [0, 1]; a tensor [h, w], [1, h, w] or [3, h, w] of the same;
            either with further dimensions before these, for several pictures; `Picture`s; or any
            iterable of these.
        max_pixels: what a file's header may promise, and what a PIL image may have.

    Raises:
        DataError: for a pattern that fits no file, an empty folder, and for what is no image. What
            cannot be read raises only where it is read.
    """
    for place, found in enumerate(flat(images, max_pixels)):
        if isinstance(found, Picture):
            yield found
        else:  # one without a name of its own is called by its place
            name = found.name or f"image-{place}"
            read = partial(found.read_as, name)
            yield Picture(name, at_once(read) if found.fleeting else read, place)


def picture_of_file(path: Path, place: int, max_pixels: int) -> Picture:
    """Return a file as a picture."""
    return Picture(str(path), partial(read_image, path, max_pixels=max_pixels), place)


def grey_picture(size: tuple[int, int], place: int) -> Picture:
    """Return a grey picture of (height, width), for a trial."""
    grey = torch.full((3, *size), 127, dtype=torch.uint8)
    return Picture("grey", lambda: grey, place)


def flat(images: Any, max_pixels: int, fleeting: bool = False) -> Iterator[Picture | Unplaced]:
    """Yield the single pictures; `fleeting` where they come from an iterator."""
    if isinstance(images, Picture):
        yield images
    elif isinstance(images, (str, PathLike)):
        for path in image_files(fsdecode(images)):
            yield Unplaced(str(path), partial(read_file, path, max_pixels=max_pixels))
    elif isinstance(images, Image.Image):
        name = fsdecode(getattr(images, "filename", ""))
        yield Unplaced(name, partial(from_pil, images, max_pixels=max_pixels), fleeting)
    elif isinstance(images, np.ndarray) and images.ndim in (2, 3):
        yield Unplaced("", partial(from_array, images), fleeting)
    elif isinstance(images, Tensor) and images.dim() in (2, 3):
        yield Unplaced("", partial(from_tensor, images), fleeting)
    elif is_several(images):
        for part in images:
            yield from flat(part, max_pixels, fleeting or not isinstance(images, LASTING))
    else:
        raise DataError(
            f"{type(images).__name__} is no image: give paths, a folder, PIL images, arrays "
            "[h, w, 3], tensors [3, h, w], or any iterable of these"
        )


def is_several(images: Any) -> bool:
    """Return whether something may hold images: an iterable that is no file, bytes or mapping."""
    if isinstance(images, (np.ndarray, Tensor)):
        return images.ndim > 3
    return isinstance(images, Iterable) and not (
        isinstance(images, (bytes, bytearray, dict)) or hasattr(images, "read")
    )


def read_file(path: Path, name: str, max_pixels: int) -> Tensor:
    """Read a file, of which messages use the path."""
    return read_image(path, max_pixels=max_pixels)


def at_once(read: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """Read now; return what gives the pixels, or raises the error, when they are asked for."""
    try:
        pixels = read().clone()
    except DataError as error:
        return partial(raising, error)
    return lambda: pixels


def raising(error: DataError) -> Tensor:
    """Raise an error."""
    raise error
