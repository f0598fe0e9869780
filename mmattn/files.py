"""Files and folders that are written whole or not at all."""

import os
import re
import shutil
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from mmattn.errors import ConfigError

SHOWN = 4  # names that a message lists
_UNFINISHED = re.compile(r"\.[0-9a-f]{32}\.tmp")


def write_whole(path: str | Path, data: bytes, *, lasting: bool = False) -> None:
    """Write a file; makes its folder if needed. A reader never sees half of it.

    `lasting` is that of `written_whole`.
    """
    with written_whole(path, lasting=lasting) as unfinished:
        unfinished.write_bytes(data)


@contextmanager
def written_whole(path: str | Path, *, lasting: bool = False) -> Iterator[Path]:
    """Give an empty file to write to, which becomes `path` if no error was raised.

    It has another name in the same folder, which is made if needed, and is then renamed, so a
    reader, or a run that was killed, never sees half of it. Whatever writes it, it may be read by
    whom any file of this process may be read by.

    With `lasting`, what was written is on the disk before it gets its name, so that a loss of power
    does not leave an empty file under it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        unfinished.touch()
        mode = unfinished.stat().st_mode
        yield unfinished
        unfinished.chmod(mode)
        if lasting:
            with unfinished.open("rb+") as file:
                os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def is_unfinished(path: Path) -> bool:
    """Return whether a file is what a killed process left of one that was to be written whole."""
    return _UNFINISHED.fullmatch(path.name) is not None


@contextmanager
def folder_written_whole(folder: str | Path, own: Collection[str] = ()) -> Iterator[Path]:
    """Give a new folder to write to, which takes the place of `folder` if no error was raised.

    It stands beside `folder`, as only there renaming cannot stop half-way. Nobody ever sees half
    of it; a process that is killed between the two renamings of a replacement leaves both folders,
    whole, under names that begin with a dot.

    Args:
        folder: where; folders above it are made. A link to a folder is followed.
        own: names that an older folder of the same kind may hold, which is then replaced.

    Raises:
        ConfigError: where `folder` is a file, or holds anything but what `own` names.
    """
    folder = Path(folder).expanduser().resolve()
    _check_replaceable(folder, own)
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.tmp")
    unfinished.mkdir()
    try:
        yield unfinished
        _put_in_place(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _put_in_place(new: Path, folder: Path) -> None:
    """Rename `new` to `folder`; what was there is removed afterwards, or comes back if it fails."""
    if not folder.exists():
        new.rename(folder)
        return
    old = new.with_suffix(".old")
    folder.rename(old)
    try:
        new.rename(folder)
    except BaseException:
        old.rename(folder)
        raise
    shutil.rmtree(old)


def _check_replaceable(folder: Path, own: Collection[str]) -> None:
    """Raise ConfigError where writing a folder would lose anything that is somebody else's."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ConfigError(f"{folder} is a file: give an empty or a new folder")
    names = {path.name for path in folder.iterdir()}
    foreign = sorted(names.difference(own))
    if foreign:
        more = " …" if len(foreign) > SHOWN else ""
        raise ConfigError(
            f"{folder} holds other files ({', '.join(map(repr, foreign[:SHOWN]))}{more}), which "
            "would be lost: give an empty or a new folder"
        )
