"""Which image files a path, a folder or a pattern means."""

import glob
import os
from collections.abc import Iterator
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import Any

from mmattn.data.folder import SUFFIXES
from mmattn.errors import ConfigError, DataError

WILDCARDS = "*?["


def image_files(given: str | Path) -> list[Path]:
    """Return the files that a path, a folder or a pattern such as "photos/**/*.jpg" means.

    A path that exists is taken as it is, whatever characters it holds. Of a folder, with all
    folders below it, and of a pattern only files with the suffix of an image count, in the order
    of their names; a file that is named is taken at its word, and may turn out to be none.

    Raises:
        DataError: for an empty folder, one that may not be looked into, a pattern that fits no
            image, and no name at all.
    """
    if not str(given):
        raise DataError("'' names no image: give a path, a folder or a pattern")
    path = at_home(given)
    try:
        if path.is_dir():
            return some(sorted(below(path)), f"{path} holds no image")
        if not os.path.lexists(path) and any(sign in str(path) for sign in WILDCARDS):
            return some(sorted(fitting(str(path))), f"{path}: no image has such a name")
    except OSError:  # a name too long, a folder above that may not be looked into
        pass
    return [path]  # also where there is no such file, as reading it will say


def files_only(images: Any) -> list[Path]:
    """Return the files that paths, folders and patterns mean, for what no other images will do.

    Raises:
        ConfigError: for images that are no files.
        DataError: as `image_files`.
    """
    given = [images] if isinstance(images, (str, PathLike)) else list(images)
    if not all(isinstance(one, (str, PathLike)) for one in given):
        raise ConfigError("an index on disk is of files: give paths, folders or patterns")
    return [path for one in given for path in image_files(os.fsdecode(one))]


def named_file(given: str | Path) -> list[Path]:
    """Return the files that a line of a list means: a file's name, or a folder's.

    As `image_files`, but no character means a pattern: lists are made by programs.
    """
    path = at_home(given)
    try:
        return image_files(path) if path.is_dir() else [path]
    except OSError:
        return [path]


def at_home(given: str | Path) -> Path:
    """Return a path, its "~" replaced by the folder of the user that it names."""
    path = Path(given)
    with suppress(RuntimeError):  # "~photo.jpg", where there is no user of that name
        return path.expanduser()
    return path


def below(folder: Path) -> Iterator[Path]:
    """Yield the images in a folder and in those below it; links to folders are not followed."""

    def refuse(error: OSError) -> None:
        raise DataError(
            f"{error.filename} cannot be looked into ({(error.strerror or '').lower()}): change "
            "its permissions, or name the folders beside it"
        ) from error

    for parent, _, names in os.walk(folder, onerror=refuse):
        yield from filter(is_image, (Path(parent, name) for name in names))


def fitting(pattern: str) -> Iterator[Path]:
    """Yield the images that fit a pattern, which may be absolute: `Path.glob` takes no such one."""
    return filter(is_image, map(Path, glob.glob(pattern, recursive=True)))  # noqa: PTH207


def is_image(path: Path) -> bool:
    """Return whether a file, or what a link leads to, has the suffix of an image."""
    return path.suffix.lower() in SUFFIXES and path.is_file()


def some(found: list[Path], complaint: str) -> list[Path]:
    """Return what was found. Raises DataError where that is nothing."""
    if not found:
        raise DataError(f"{complaint} (looked for {', '.join(sorted(SUFFIXES))})")
    return found
