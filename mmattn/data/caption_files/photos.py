"""Which file of a folder is the photo that a file of captions names."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mmattn.data.caption_files.entry import Entry
from mmattn.data.caption_files.matching import shown
from mmattn.data.images import inside
from mmattn.errors import DataError


def photo_named(names: Iterable[str], folder: Path) -> Path | None:
    """Return a photo, by its path below the folder or by the end of its path; None without one.

    Nothing outside of the folder is found.

    Args:
        names: what the photo is called; the first one that is there counts.
        folder: of the photos.
    """
    candidates = dict.fromkeys(tail for name in names for tail in tails(name))
    return next(filter(None, (existing(folder, name) for name in candidates)), None)


def check_owners(paths: Sequence[Path], entries: Sequence[Entry]) -> None:
    """Raise DataError where one file may be the photo of two images."""
    owners: dict[Path, Entry] = {}
    for path, entry in zip(paths, entries, strict=True):
        other = owners.setdefault(path, entry)
        if other is not entry:
            raise DataError(
                f"{path} may be the photo of {shown(other)} and of {shown(entry)}: give the folder "
                "that their names begin in"
            )


def tails(name: str) -> Iterator[str]:
    """Yield a path, then what is left of it without its first folder, its first two …"""
    parts = name.split("/")
    yield from ("/".join(parts[i:]) for i in range(len(parts)))


def existing(folder: Path, name: str) -> Path | None:
    """Return a file of a folder, None where there is none or its path leaves the folder."""
    try:
        path = inside(folder, name)
        return path if path.is_file() else None
    except (DataError, OSError):  # such as a name that is too long for any file
        return None
