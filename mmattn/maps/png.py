"""Writing a picture to disk as PNG (W3C PNG, third edition), fast and whole or not at all."""

import struct
import zlib
from pathlib import Path

import numpy as np

from mmattn.files import write_whole


def save_png(path: str | Path, picture: np.ndarray) -> None:
    """Write a picture [H, W, 3] uint8 as PNG, whole or not at all; makes the folder if needed.

    Raises `ValueError` for any other array.
    """
    write_whole(path, encoded(picture))


def encoded(picture: np.ndarray) -> bytes:
    """Return a picture [H, W, 3] uint8 as the bytes of a PNG file.

    Every row is stored as its difference to the row above. Pillow tries five such filters on each
    row: it takes 2.5 times as long, for files a twentieth smaller (measured on such pictures).
    """
    picture = checked_picture(picture)
    height, width = picture.shape[:2]
    rows = picture.reshape(height, 3 * width)
    filtered = np.empty((height, 1 + 3 * width), np.uint8)
    filtered[:, 0] = 2  # the filter "up"
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits, RGB
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(filtered.data, 1)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


def checked_picture(image: np.ndarray) -> np.ndarray:
    """Return the picture. Raises `ValueError` unless it is uint8 RGB [H, W, 3] with pixels."""
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(
            f"a picture is uint8 RGB [height, width, 3] with values 0 to 255, got {image.dtype} "
            f"{image.shape}"
        )
    return image


def _chunk(kind: bytes, data: bytes) -> bytes:
    check = zlib.crc32(data, zlib.crc32(kind))
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)
