"""Where commands may write: checked before anything is read or computed."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile

from mmattn.errors import ConfigError


def check_file(
    path: Path,
    option: str,
    *,
    others: Mapping[str, Path | None] | None = None,
    example: str = "",
    remedy: str = "give another file",
) -> None:
    """Raise ConfigError where a file cannot be written as a whole; leaves nothing behind.

    Args:
        path: of the file, which may exist; a link is followed.
        option: that names it.
        others: option -> a file that it names, which must not be this one.
        example: of a name.
        remedy: for what is no regular file, such as a device, which would be replaced.
    """
    if path.is_dir():
        like = f", such as {example}" if example else ""
        raise ConfigError(f"{option} {path} is a folder: give a file{like}")
    if path.exists() and not path.is_file():
        raise ConfigError(f"{option} {path} is no regular file: {remedy}")
    place = path.resolve()
    for other, taken in (others or {}).items():
        if taken is not None and taken.resolve() == place:
            raise ConfigError(f"{option} {path} is the file of {other}: give another file")
    check_folder(place.parent, option)


def check_folder(folder: Path, option: str) -> None:
    """Raise ConfigError where files cannot be written to `folder`; leaves nothing behind.

    It may be a folder that does not exist yet. `option` is what names another one.
    """
    missing = [place for place in (folder, *folder.parents) if not os.path.lexists(place)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = f"cannot be written ({(error.strerror or str(error)).lower()})"
        if isinstance(error, FileExistsError):
            reason = "is no folder"
        raise ConfigError(f"{folder} {reason}: give another folder with {option}") from None
    finally:
        for place in missing:
            with suppress(OSError):
                place.rmdir()
