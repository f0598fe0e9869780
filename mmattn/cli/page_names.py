"""Names of the files about an image: as its own path, inside a folder, no two alike."""

from collections.abc import Sequence
from os import fsencode
from pathlib import Path

SUFFIXES = (".html", ".png", ".npz")
LONGEST = 240  # bytes of a name: file systems take 255, and a number and a suffix come behind


def page_names(images: Sequence[Path]) -> list[Path]:
    """Return a relative path for each image, to which a suffix of `SUFFIXES` is put.

    The same image has the same one in every job, "photos/cat.jpg" its own path, unless another of
    this job already stands there: then a number is put to its name. Two that differ in capitals
    only are one to some file systems.
    """
    taken: set[str] = set()
    result = []
    for image in images:
        page = candidate = inside(image)
        number = 2
        while str(candidate).casefold() in taken:
            candidate = page.with_name(f"{page.stem}-{number}{page.suffix}")
            number += 1
        taken.add(str(candidate).casefold())
        result.append(candidate)
    return result


def inside(image: Path) -> Path:
    """Return a path below wherever it is put, by which an image can be known."""
    *folders, name = (part for part in image.parts if part != image.anchor)
    return Path(*map(folder_name, folders), shortened(name))


def folder_name(part: str) -> str:
    """Return a folder's name that leads upwards nowhere, and that no page has."""
    if part == "..":
        return "up"
    return f"{part}_" if part.lower().endswith(SUFFIXES) else part


def shortened(name: str) -> str:
    """Return a file's name, cut off before its suffix where it is too long."""
    suffix = Path(name).suffix
    suffix = suffix if len(suffix) < 10 else ""  # else it is only a dot in a name
    stem = name.removesuffix(suffix)
    while len(fsencode(stem + suffix)) > LONGEST:
        stem = stem[:-1]
    return stem + suffix
