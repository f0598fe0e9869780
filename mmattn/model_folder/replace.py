"""A folder that is written whole or not at all, also in the place of an older one."""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmattn.errors import CheckpointError, ConfigError
from mmattn.model_folder.layout import CARD, MANIFEST
from mmattn.model_folder.manifest import SHOWN, read_manifest


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """Give a new folder to write to, which takes the place of `folder` if no error was raised.

    It stands beside `folder`, as only there renaming cannot stop half-way. Nobody ever sees half
    of it; a process that is killed between the two renamings of a replacement leaves both folders,
    whole, under names that begin with a dot.

    Raises:
        ConfigError: where `folder` is anything but absent, empty, or a model folder with nothing
            else in it.
    """
    folder = folder.expanduser().resolve()
    check_replaceable(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.tmp")
    unfinished.mkdir()
    try:
        yield unfinished
        put_in_place(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def put_in_place(new: Path, folder: Path) -> None:
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


def check_replaceable(folder: Path) -> None:
    """Raise ConfigError where a folder holds anything that was not written as a model folder."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder: give another path for the model folder")
    names = {path.name for path in folder.iterdir()}
    foreign = sorted(names - own_names(folder))
    if foreign:
        more = " …" if len(foreign) > SHOWN else ""
        raise ConfigError(
            f"{folder} holds other files ({', '.join(map(repr, foreign[:SHOWN]))}{more}), which a "
            "model folder would replace: give an empty or a new folder"
        )


def own_names(folder: Path) -> set[str]:
    """Return the names of a model folder's files, of whatever format; none of another folder."""
    if not (folder / MANIFEST).is_file():
        return set()
    try:
        return {*read_manifest(folder), CARD, MANIFEST}
    except CheckpointError:
        return set()
