"""Golden pictures: fixed inputs give these very pixels, on every machine.

Only what has no text is held to the pixel: letters change with the version of the font renderer.
Where a picture is meant to change, run this file with a folder as its argument, look at the
pictures that it writes there, and copy the hashes that it prints into `GOLDEN`.
"""

import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest

from mmattn.maps.geometry import Placement
from mmattn.maps.look import Look
from mmattn.maps.overlay import overlay
from mmattn.maps.png import save_png

GOLDEN = {
    "heat, nearest": "1a8f98bd1ac06d3a",
    "heat, bilinear": "ea04161bf138ffae",
    "heat, bicubic": "35ad58e5851dbcc1",
    "signs, nearest": "79d654aeb2518715",
    "signs, bilinear": "6d51d3a37646f52e",
    "signs, bicubic": "02f0c3589f184078",
    "crop, light": "0b10ab9bed8a9708",
    "crop, dark": "709b9c2b0889e5f6",
    "constant": "a2aa8c178823884b",
}


def image() -> np.ndarray:
    """Slopes and a checkerboard: every grey and some colour, without a random number."""
    rows, columns = np.indices((96, 128))
    board = 40 * ((rows // 8 + columns // 8) % 2)
    return np.stack([rows * 2, columns + board, 255 - rows - columns], 2).astype(np.uint8)


def map() -> np.ndarray:
    """A ridge on the slope of a hill, [6, 8], that sums to 1."""
    rows, columns = np.indices((6, 8))
    values = 1 / (1 + (rows - 2) ** 2 + (columns - 5) ** 2) + (rows == columns) / 4
    return values / values.sum()


def pictures() -> dict[str, np.ndarray]:
    crop = Placement.center_crop((96, 128), 80, 64)
    drawn = {
        f"{kind}, {mode}": overlay(image(), values, signed=signed, look=Look(mode=mode))
        for kind, values, signed in [("heat", map(), False), ("signs", map() - 1 / 48, True)]
        for mode in ("nearest", "bilinear", "bicubic")
    }
    for theme in ("light", "dark"):
        drawn[f"crop, {theme}"] = overlay(image(), map(), placement=crop, look=Look(theme=theme))
    drawn["constant"] = overlay(image(), np.full((6, 8), 1 / 48))
    return {name: one.picture for name, one in drawn.items()}


def digest(picture: np.ndarray) -> str:
    return hashlib.sha256(repr(picture.shape).encode() + picture.tobytes()).hexdigest()[:16]


@pytest.mark.parametrize("name", GOLDEN)
def test_the_pixels_are_those_of_the_golden_picture(name):
    assert digest(pictures()[name]) == GOLDEN[name]


def test_every_picture_has_a_hash():
    assert list(pictures()) == list(GOLDEN)
    assert len(set(GOLDEN.values())) == len(GOLDEN)


if __name__ == "__main__":
    for name, picture in pictures().items():
        save_png(Path(sys.argv[1]) / f"{name}.png", picture)
        print(f'    "{name}": "{digest(picture)}",')
