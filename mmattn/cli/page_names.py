"""Names of the files about an image: as its own path, inside a folder, no two alike."""

import hashlib
import json
import re
from collections.abc import Sequence
from os import fsencode
from pathlib import Path

Text = str | Sequence[str]

SUFFIXES = (".html", ".png", ".npz")
LONGEST = 240  # bytes of a name: file systems take 255, and a number and a suffix come behind


def page_names(images: Sequence[Path]) -> list[Path]:
    """Return a relative path for each image, to which a suffix of `SUFFIXES` is put.

    The same image has the same one in every job, "photos/cat.jpg" its own path, unless another of
    this job already stands there: then a number is put to its name. Two that differ in capitals
    only are one to some file systems.
    """
    return different([inside(image) for image in images])


def question_pages(questions: Sequence[tuple[Sequence[str], Text | None]]) -> list[Path]:
    """Return a relative path for each input of a classifier: the paths of its images, and its text.

    That of its first image, and, where more belongs to the input than that, the beginning of the
    text and a sum of all: the same image with another text has another one, in every job.
    """
    return different([question_page(images, text) for images, text in questions])


def question_page(images: Sequence[str], text: Text | None) -> Path:
    """Return the path of one input."""
    page = inside(Path(images[0])) if images else Path()
    if text is None and len(images) == 1:
        return page
    words = text if isinstance(text, str) else " ".join(text or ())
    said = re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")[:40].strip("-")
    whole = hashlib.sha256(json.dumps([list(images), text]).encode()).hexdigest()[:10]
    tail = "-".join(part for part in (said, whole) if part)
    if not images:
        return Path(tail)
    return page.with_name(f"{shortened(page.name, LONGEST - len(tail) - 1)}.{tail}")


def different(pages: Sequence[Path]) -> list[Path]:
    """Return the paths, with a number behind the name of each that stands there already."""
    taken: set[str] = set()
    result = []
    for page in pages:
        candidate = page
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


def shortened(name: str, longest: int = LONGEST) -> str:
    """Return a file's name, cut off before its suffix where it has more bytes than that."""
    suffix = Path(name).suffix
    suffix = suffix if len(suffix) < 10 else ""  # else it is only a dot in a name
    stem = name.removesuffix(suffix)
    while len(fsencode(stem + suffix)) > longest:
        stem = stem[:-1]
    return stem + suffix
