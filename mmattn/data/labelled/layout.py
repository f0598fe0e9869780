"""What has to lie in the folder of a data set, and how to get it where it does not."""

from collections.abc import Mapping
from pathlib import Path

from mmattn.data.findings import nearest
from mmattn.errors import DataError


def absolute(root: str | Path) -> Path:
    """Return a folder's path so that a later change of the working folder does not matter."""
    return Path(root).expanduser().absolute()


def check_layout(
    root: Path,
    how_to_get: str,
    files: Mapping[str, str],
    folders: Mapping[str, str] | None = None,
    key: str = "root",
) -> None:
    """Check that everything is there; `files` and `folders` map what a path is to the path.

    `key` is what the configuration calls the folder.

    Raises:
        DataError: names all that is missing, what resembles it, and how to get the data set.
    """
    if not root.is_dir():
        raise DataError(f"{key}={str(root)!r} is not a folder. {how_to_get}")
    try:
        names = sorted(path.name for path in root.iterdir())
        missing = [(what, path) for what, path in files.items() if not (root / path).is_file()]
        missing += [
            (what, path) for what, path in (folders or {}).items() if not (root / path).is_dir()
        ]
    except OSError as error:
        raise DataError(f"{root} cannot be read: {error}. Check names and rights.") from error
    if missing:
        lines = [f"  {path}: {what}{nearest(path, names)}" for what, path in missing]
        empty = "" if names else " (the folder is empty)"
        raise DataError("\n".join([f"{root} lacks{empty}:", *lines, how_to_get]))
