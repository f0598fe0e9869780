"""Photos and attention for the page of scores: small pictures in it, or links to files."""

import base64
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from PIL import Image

from mmattn.data.caption_files.entry import Key
from mmattn.data.caption_files.matching import Pair
from mmattn.data.caption_files.photos import existing, photo_named
from mmattn.data.images import read_image
from mmattn.errors import DataError
from mmattn.maps.archive import bounded, load_attention
from mmattn.reports.scores.photos import names_of

PHOTO_SIDE, STRIP_SIDE = 192, 960  # pixels of the longer side
MOST_BYTES = 48_000_000  # of all pictures in a page: what does not fit is linked, or left out


class Pictures:
    """Finds the pictures of images, and makes them small; nothing outside of two folders is read.

    Args:
        page: where the page will be, which links are relative to.
        photos: the folder of photos, None for none.
        attention: that which `mmattn caption --attention` wrote, None for none.
        names: image -> by which path below `attention` its files go, without their suffix.

    Attributes:
        notes: what could not be shown, in words.
    """

    def __init__(
        self, page: Path, photos: Path | None, attention: Path | None, names: Mapping[Key, Path]
    ):
        self.page, self.photos, self.attention, self.names = page, photos, attention, names
        self._bytes = 0
        self._lost: dict[str, list[str]] = {}

    def of(self, pair: Pair) -> dict[str, Any]:
        """Return "photo" and "strip" as data addresses and "link" as an address, where they are."""
        found = {}
        if self.photos is not None:
            found["photo"] = self._photo(self.photos, pair)
        if self.attention is not None and pair.prediction.key in self.names:
            found |= self._attention(self.attention, self.names[pair.prediction.key])
        elif self.attention is not None:
            self._lose("no attention", str(pair.prediction.key))
        return {name: value for name, value in found.items() if value is not None}

    @property
    def notes(self) -> list[str]:
        """What is not on the page, and how often."""
        return [
            f"{why}: {len(of):,} ({of[0]}{', …' * (len(of) > 1)})" for why, of in self._lost.items()
        ]

    def _photo(self, folder: Path, pair: Pair) -> str | None:
        """Return a photo, found by its path below the folder, or by the end of its path."""
        named = names_of(pair)
        if not named:
            self._lose("photos without a name in either file", str(pair.reference.key))
            return None
        path = photo_named(named, folder)
        if path is None:
            self._lose(f"photos that are not in {folder.name}", named[0])
            return None
        try:
            return self._fitting(read_image(path).permute(1, 2, 0).numpy(), PHOTO_SIDE)
        except DataError:
            self._lose("photos that cannot be read", path.name)
            return None

    def _attention(self, folder: Path, name: Path) -> dict[str, str | None]:
        """Return the strip of words, from a picture or from numbers, and the page to link to."""
        files = {kind: existing(folder, f"{name}.{kind}") for kind in ("html", "png", "npz")}
        if not any(files.values()):
            self._lose(f"images whose attention is not in {folder.name}", str(name))
            return {}
        target = files["html"] or files["png"]
        strip = None
        try:
            if files["png"] is not None:
                strip = read_image(files["png"]).permute(1, 2, 0).numpy()
            elif files["npz"] is not None:
                strip = strip_of_numbers(files["npz"])
        except DataError:
            self._lose("attention that cannot be read", name.name)
        return {
            "strip": None if strip is None else self._fitting(strip, STRIP_SIDE),
            "link": None if target is None else link(self.page, target),
        }

    def _fitting(self, picture: np.ndarray, side: int) -> str | None:
        """Return a picture as a data address, while the page has room for it."""
        address = data_address(bounded(picture, side))
        if self._bytes + len(address) > MOST_BYTES:
            self._lose("pictures that the page has no room for", f"it holds {self._bytes:,} bytes")
            return None
        self._bytes += len(address)
        return address

    def _lose(self, why: str, name: str) -> None:
        self._lost.setdefault(why, []).append(name)


def strip_of_numbers(path: Path) -> np.ndarray:
    """Draw the words of recorded attention. Raises `DataError` for a file without their maps."""
    from mmattn.maps.record_pictures import word_strip  # with matplotlib, which takes a second

    record = load_attention(path)
    if not record.methods:
        raise DataError(f"{path} holds no map of a word: write it with `mmattn caption`")
    return word_strip(record)


def link(page: Path, target: Path) -> str:
    """Return the address of a file relative to a page."""
    relative = os.path.relpath(target.absolute(), page.absolute().parent)
    return quote(Path(relative).as_posix())


def data_address(picture: np.ndarray) -> str:
    """Return a picture uint8 [H, W, 3] as a JPEG in a data: address, a tiny one as PNG."""
    kind = "png" if max(picture.shape[:2]) <= 96 else "jpeg"
    file = io.BytesIO()
    Image.fromarray(picture).save(file, kind, quality=80)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
