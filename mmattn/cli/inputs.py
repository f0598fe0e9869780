"""The images of a command: what its arguments and stdin name, each once, with a place."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os.path import abspath
from pathlib import Path

from mmattn.cli.page_names import page_names
from mmattn.errors import ConfigError, DataError
from mmattn.pipeline.image_files import image_files, named_file
from mmattn.pipeline.pictures import Picture, picture_of_file

STDIN = "-"


@dataclass(frozen=True)
class Input:
    """One image of a job.

    Attributes:
        path: of the file, as it was named; results call it by that.
        place: among all images of the job.
        page: a relative path that no other image of the job has, to name files after.
    """

    path: Path
    place: int
    page: Path

    @property
    def name(self) -> str:
        """What results call it."""
        return str(self.path)

    @property
    def key(self) -> str:
        """By what a line is known to be about it."""
        return self.name

    def picture(self, max_pixels: int) -> Picture:
        """Return it as what a pipeline reads."""
        return picture_of_file(self.path, self.place, max_pixels)


def numbered(paths: Sequence[Path]) -> list[Input]:
    """Return the images of a job, in order."""
    pages = page_names(paths)
    return [Input(path, i, page) for i, (path, page) in enumerate(zip(paths, pages, strict=True))]


def named_images(arguments: Sequence[str], own: Path | None = None) -> list[Path]:
    """Return the images that paths, folders and patterns name, each once, by its first name.

    "-" reads files' and folders' names from stdin, one a line. What lies in `own`, where a job
    writes pictures itself, is left out, and that is said on stderr.

    Raises:
        DataError: for an empty folder, a pattern that fits no file, or no name at all.
        ConfigError: where all lie in `own`.
    """
    found: dict[str, Path] = {}  # by what they are, however they are named
    for path in named(arguments):
        found.setdefault(abspath(path), path)  # noqa: PTH100 (links are as good as files)
    if not found:
        raise DataError("stdin named no image: give one path a line")
    images = list(found.values())
    if own is None:
        return images
    kept = outside(images, own)
    if len(kept) < len(images):
        print(
            f"{len(images) - len(kept)} images are left out: they lie in {own}, where pictures of "
            "attention are written",
            file=sys.stderr,
        )
    return kept


def outside(images: Sequence[Path], folder: Path) -> list[Path]:
    """Return the images that do not lie in a folder, where a job writes pictures of its own.

    Raises:
        ConfigError: where all of them lie there.
    """
    own = Path(abspath(folder))  # noqa: PTH100
    kept = [image for image in images if own not in Path(abspath(image)).parents]  # noqa: PTH100
    if not kept:
        raise ConfigError(
            f"all images lie in {folder}, where pictures of attention are written: give another "
            "folder with --attention"
        )
    return kept


def named(arguments: Sequence[str]) -> Iterator[Path]:
    """Yield the files that arguments mean."""
    for argument in arguments:
        if argument == STDIN:
            for line in stdin_lines():
                yield from named_file(line)
        else:
            yield from image_files(argument)


def stdin_lines() -> list[str]:
    """Return the lines of stdin that name something. Raises DataError where nobody gives any."""
    if sys.stdin is None:
        raise DataError("stdin is closed: give one a line there, or name them on the command line")
    return [line for line in (raw.rstrip("\r\n") for raw in sys.stdin) if line.strip()]
