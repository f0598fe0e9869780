"""The part of a file of captions that is meant: a split that it names, or a list of images."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mmattn.data.caption_files.entry import Entry
from mmattn.data.captions import excerpt, read_lines
from mmattn.data.findings import nearest, some
from mmattn.errors import ConfigError, DataError


def selected(entries: Sequence[Entry], split: str | None, source: Path) -> list[Entry]:
    """Return the images of a split, or those that a file lists; all where none is asked for.

    Args:
        entries: images with their captions.
        split: the name of a split in their file (Karpathy's), or the path of a file with a name or
            a number on each line.
        source: their file, for messages.

    Raises:
        ConfigError: where it is neither.
        DataError: for a list with an image that is not among them.
    """
    if split is None:
        return list(entries)
    found = [entry for entry in entries if entry.split == split]
    if found:
        return found
    if Path(split).is_file():
        return _listed(entries, Path(split), source)
    sizes = split_sizes(entries)
    hint = nearest(split, {entry.split or "" for entry in entries})
    there = f"has the splits {sizes}" if sizes else "names no splits"
    raise ConfigError(f"no split and no file is called {split}{hint}; {source} {there}")


def of_training(entries: Sequence[Entry], split: str | None, source: Path) -> list[Entry]:
    """Return the images of a split; without one, all but those of validation or test.

    The arguments, and what it raises, are as of `selected`; there must be others.
    """
    if split is not None:
        return selected(entries, split, source)
    found = [entry for entry in entries if entry.split not in ("val", "test")]
    if not found:
        raise ConfigError(
            f"{source} has captions of validation and test alone: give those of training"
        )
    return found


def split_sizes(entries: Sequence[Entry]) -> str:
    """Return the splits of a file with their numbers of images; "" where it has none."""
    counts = Counter(entry.split for entry in entries if entry.split is not None)
    return ", ".join(f"{name} ({count:,})" for name, count in counts.items())


def _listed(entries: Sequence[Entry], path: Path, source: Path) -> list[Entry]:
    wanted = {line.strip() for line in read_lines(path) if line.strip()}
    found = [entry for entry in entries if _names(entry) & wanted]
    missing = wanted - set().union(*map(_names, found))
    if missing:
        names = some([excerpt(name) for name in sorted(missing)])
        raise DataError(f"{path} lists images that have no captions in {source}: {names}")
    return found


def _names(entry: Entry) -> set[str]:
    return {str(entry.key), entry.name or str(entry.key)}
