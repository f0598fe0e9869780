"""Where the index of images lies that nobody gave a place: in the user's cache folder."""

import os
from collections.abc import Sequence
from hashlib import sha256
from os.path import abspath, commonpath
from pathlib import Path

from mmattn.cli.inputs import STDIN
from mmattn.pipeline.image_files import WILDCARDS, at_home


def default_index(arguments: Sequence[str], images: Sequence[Path], model: str) -> Path:
    """Return the file of the index of a folder by a model.

    Each model has an index of its own for each folder that is searched, so naming some of its
    files, a pattern, or all of it uses the same one.

    Args:
        arguments: of the command line, which name images.
        images: what they mean.
        model: the `fingerprint` of the model.
    """
    folder = searched_folder(arguments, images)
    key = sha256(f"{model} {folder}".encode(errors="surrogateescape")).hexdigest()[:16]
    return cache_folder() / "indexes" / f"{folder.name or 'all'}-{key}.index"


def cache_folder() -> Path:
    """Return where this library keeps what can be computed again."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return at_home(base) / "mmattn"


def searched_folder(arguments: Sequence[str], images: Sequence[Path]) -> Path:
    """Return the folder that all images lie in, as far as the arguments tell.

    It is that of the arguments and not of what lies there now: one more photo changes nothing.
    """
    named = [folder_of(argument) for argument in arguments if argument != STDIN]
    listed = [abspath(image.parent) for image in images] if STDIN in arguments else []  # noqa: PTH100
    return Path(commonpath([*named, *listed]))


def folder_of(argument: str) -> str:
    """Return the folder that a path, a folder or a pattern names images in."""
    path = at_home(argument)
    if path.is_dir():
        return abspath(path)  # noqa: PTH100 (links stay links)
    if not os.path.lexists(path):
        wild = (i for i, part in enumerate(path.parts) if set(part) & set(WILDCARDS))
        path = Path(*path.parts[: next(wild, len(path.parts) - 1)], "any")
    return abspath(path.parent)  # noqa: PTH100
