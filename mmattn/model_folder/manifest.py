"""The manifest: no format of weights notices a flipped bit, so every file has its SHA-256."""

import hashlib
import json
import re
from pathlib import Path
from typing import NamedTuple

from mmattn.errors import CheckpointError
from mmattn.files import SHOWN, write_whole
from mmattn.model_folder.layout import CARD, MANIFEST

# No path leaves the folder with these letters, and nothing is hidden.
NAME = re.compile(r"[\w-][\w.-]*")


class Entry(NamedTuple):
    """What the manifest says of one file: its size in bytes and its SHA-256, in hexadecimal."""

    size: int
    sha256: str


def write_manifest(folder: Path) -> None:
    """Write the manifest of all files in a folder but the card."""
    paths = sorted(path for path in folder.iterdir() if path.name not in (CARD, MANIFEST))
    entries = {path.name: entry_of(path)._asdict() for path in paths}
    write_whole(folder / MANIFEST, (json.dumps({"files": entries}, indent=2) + "\n").encode())


def entry_of(path: Path) -> Entry:
    """Return what a manifest says of a file as it is now."""
    with path.open("rb") as stream:
        return Entry(path.stat().st_size, hashlib.file_digest(stream, "sha256").hexdigest())


def read_manifest(folder: Path) -> dict[str, Entry]:
    """Return what the manifest says of each file.

    Raises:
        CheckpointError: where it is none, or names anything but files of this very folder.
    """
    path = folder / MANIFEST
    try:
        files = json.loads(path.read_text(encoding="utf-8"))["files"]
        entries = {name: Entry(int(of["size"]), str(of["sha256"])) for name, of in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise CheckpointError(
            f"{path}: not the manifest of a model folder; copy the folder again from where it came"
        ) from None
    for name in entries:
        if not NAME.fullmatch(name) or name in (CARD, MANIFEST):
            raise CheckpointError(f"{path}: {name!r} is no name of a file in this folder")
    return entries


def own_names(folder: Path) -> set[str]:
    """Return the names of a model folder's files, of whatever format; none of another folder."""
    if not (folder / MANIFEST).is_file():
        return set()
    try:
        return {*read_manifest(folder), CARD, MANIFEST}
    except CheckpointError:
        return set()


def check_manifest(folder: Path, *, alone: bool = True) -> set[str]:
    """Compare a folder with its manifest; return the names of the files that are as it says.

    Args:
        folder: holds a manifest.
        alone: also refuse files that the manifest does not name, other than the card and names
            that begin with a dot.

    Raises:
        CheckpointError: naming the files that are missing, altered or foreign, with the remedy.
    """
    entries = read_manifest(folder)
    spoilt = [
        trouble for name, entry in entries.items() if (trouble := spoilt_by(folder / name, entry))
    ]
    foreign = foreign_files(folder, {*entries, CARD, MANIFEST}) if alone else []
    if not spoilt and not foreign:
        return set(entries)
    remedies = ["copy the folder again from where it came"] * bool(spoilt)
    remedies += ["move what is not of this model elsewhere"] * bool(foreign)
    problems = [*spoilt, *(f"{name!r} is not in {MANIFEST}" for name in foreign)]
    more = f" and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
    raise CheckpointError(
        f"{folder}: {'; '.join(problems[:SHOWN])}{more}: {', and '.join(remedies)}"
    )


def spoilt_by(path: Path, entry: Entry) -> str | None:
    """Return what is wrong with a file, None if nothing is."""
    if not path.is_file():
        return f"{path.name} is missing"
    size = path.stat().st_size
    if size != entry.size:
        return f"{path.name} was altered: it has {size:,} bytes, {entry.size:,} were written"
    if entry_of(path).sha256 != entry.sha256:
        return f"{path.name} was altered: it has another SHA-256 than when it was written"
    return None


def foreign_files(folder: Path, known: set[str]) -> list[str]:
    """Return the names in a folder that are not `known` and do not begin with a dot."""
    names = sorted(path.name for path in folder.iterdir())
    return [name for name in names if name not in known and not name.startswith(".")]
