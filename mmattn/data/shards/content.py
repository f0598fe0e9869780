"""An image as the bytes of a file: those of its own file, or a PNG of its pixels."""

from io import BytesIO
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from PIL import Image

from mmattn.data.images import image_bytes, image_header

ENDINGS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "BMP": "bmp", "GIF": "gif", "TIFF": "tif"}


@runtime_checkable
class OnDisk(Protocol):
    """A set whose images are files."""

    def path(self, index: int) -> Path:
        """Return the image's file. Raises `DataError` if it leaves its folder."""
        ...


@runtime_checkable
class InShards(Protocol):
    """A set whose images are parts of files."""

    def content(self, index: int) -> bytes:
        """Return the bytes of the image. Raises `DataError` if they cannot be read."""
        ...


def stored(dataset: Any, index: int) -> bytes | None:
    """Return the bytes of an image as they are stored; None of pictures that are drawn.

    Raises `DataError` where they cannot be read.
    """
    if isinstance(dataset, InShards):
        return dataset.content(index)
    return image_bytes(dataset.path(index)) if isinstance(dataset, OnDisk) else None


def encoded(dataset: Any, index: int) -> tuple[str, bytes]:
    """Return (ending, bytes) of an image; its format is told by its header, not by its name.

    Raises `DataError` for an image that cannot be read, or whose header cannot be used.
    """
    data = stored(dataset, index)
    if data is not None:
        return ENDINGS[image_header(data, dataset.key(index))[0]], data
    pixels = dataset.image(index).permute(1, 2, 0).contiguous().numpy()
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return "png", file.getvalue()
