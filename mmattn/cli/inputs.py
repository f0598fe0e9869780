"""The images of a command: what its arguments and stdin name, each once, with a place."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmattn.errors import DataError
from mmattn.pipeline.pictures import Picture, files, reader

STDIN = "-"


@dataclass(frozen=True)
class Input:
    """One image of a job.

    name: as results call it. place: among all images of the job. page: a relative path that no
    other image of the job has, to name files after.
    """

    name: str
    path: Path
    place: int
    page: Path

    def picture(self, max_pixels: int) -> Picture:
        """Return it as what a pipeline reads."""
        return Picture(self.name, reader(self.path, max_pixels), self.place)


def inputs(arguments: Sequence[str]) -> list[Input]:
    """Return the images that paths, folders and patterns name; "-" reads such lines from stdin.

    Raises:
        DataError: for an empty folder, a pattern that fits no file, or no name at all.
    """
    found: dict[str, Path] = {}
    for argument in arguments:
        for given in stdin_lines() if argument == STDIN else [argument]:
            root = Path(given).expanduser()
            for path in files(given):
                below = path.relative_to(root) if root.is_dir() else Path(path.name)
                found.setdefault(str(path), below)
    if not found:
        raise DataError("stdin named no image: give one path a line")
    pages = unlike(list(found.values()))
    return [
        Input(name, Path(name), place, page)
        for place, (name, page) in enumerate(zip(found, pages, strict=True))
    ]


def stdin_lines() -> list[str]:
    """Return the lines of stdin that name something."""
    return [line for line in (raw.rstrip("\r\n") for raw in sys.stdin) if line.strip()]


def unlike(paths: Sequence[Path]) -> list[Path]:
    """Return the paths with a number put to those that stood there before, also by their case."""
    taken: set[str] = set()
    result = []
    for path in paths:
        candidate, number = path, 2
        while str(candidate).casefold() in taken:
            candidate = path.with_name(f"{path.stem}-{number}{path.suffix}")
            number += 1
        taken.add(str(candidate).casefold())
        result.append(candidate)
    return result
