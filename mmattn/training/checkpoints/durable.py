"""Files that a kill, a full disk or a power cut leaves whole, or not there at all.

What is written has a name of its own in the folder it is for: only within one file system is
renaming a single step, and the folder for temporary files is often on another. It is on the disk
(fsync) before it gets its name, and the folder's list of names is on the disk after.
"""

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

LEFTOVER = re.compile(r"\..+\.\d+-[0-9a-f]{8}\.tmp")


@contextmanager
def unfinished(path: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """Give a new file beside `path`, and a stream to write to; afterwards it is gone if unnamed.

    Raises:
        OSError: where the disk refuses.
    """
    place = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with place.open("xb") as stream:
            yield place, stream
    finally:
        place.unlink(missing_ok=True)


def to_disk(stream: BinaryIO) -> None:
    """Return when all that was written to a stream is on the disk. Raises OSError."""
    stream.flush()
    os.fsync(stream.fileno())


def put_in_place(place: Path, path: Path) -> None:
    """Give a file that is on the disk its name; whatever had the name is gone. Raises OSError."""
    os.replace(place, path)  # noqa: PTH105 (what tests of a disk that refuses patch)
    names_to_disk(path.parent)


def names_to_disk(folder: Path) -> None:
    """Return when a folder's names are on the disk, where the system knows of such a thing."""
    if os.name == "nt":  # where a folder cannot be opened
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_durably(path: Path, data: bytes) -> None:
    """Write a small file whole, and on the disk when this returns. Raises OSError."""
    with unfinished(path) as (place, stream):
        stream.write(data)
        to_disk(stream)
        put_in_place(place, path)


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process left unfinished; nobody else may be writing to the folder.

    Raises:
        OSError: where the folder cannot be written.
    """
    for path in folder.glob(".*.tmp"):
        if LEFTOVER.fullmatch(path.name):
            path.unlink(missing_ok=True)
