"""The part of a file of references that is scored: a split that it names, or a list of images."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mmattn.data.caption_files.entry import Entry
from mmattn.data.captions import excerpt, read_lines
from mmattn.data.findings import nearest, some
from mmattn.errors import ConfigError, DataError


def selected(entries: Sequence[Entry], split: str | None) -> list[Entry]:
    """Return the images of a split, or those that a file lists; all where none is asked for.

    Args:
        entries: the references.
        split: the name of a split in the file (Karpathy's), or the path of a file with a name or a
            number on each line.

    Raises:
        ConfigError: where it is neither.
        DataError: for a list with an image that is not among the references.
    """
    if split is None:
        return list(entries)
    found = [entry for entry in entries if entry.split == split]
    if found:
        return found
    if Path(split).is_file():
        return _listed(entries, Path(split))
    names = split_sizes(entries)
    there = f"the references have {names}" if names else "the references name no splits"
    hint = nearest(split, {entry.split or "" for entry in entries})
    raise ConfigError(f"--split {split}: no such split or file{hint}; {there}")


def of_training(entries: Sequence[Entry], path: Path) -> list[Entry]:
    """Return the images but those that their file says are of validation or test.

    Raises ConfigError where there are no others; `path` is the file's, for the message.
    """
    found = [entry for entry in entries if entry.split not in ("val", "test")]
    if not found:
        raise ConfigError(
            f"{path} has captions of validation and test alone: give those of training"
        )
    return found


def split_sizes(entries: Sequence[Entry]) -> str:
    """Return the splits of a file with their numbers of images; "" where it has none."""
    counts = Counter(entry.split for entry in entries if entry.split is not None)
    return ", ".join(f"{name} ({count:,})" for name, count in counts.items())


def _listed(entries: Sequence[Entry], path: Path) -> list[Entry]:
    wanted = {line.strip() for line in read_lines(path) if line.strip()}
    found = [entry for entry in entries if _names(entry) & wanted]
    missing = wanted - set().union(*map(_names, found))
    if missing:
        names = some([excerpt(name) for name in sorted(missing)])
        raise DataError(f"{path} lists images that have no references: {names}")
    return found


def _names(entry: Entry) -> set[str]:
    return {str(entry.key), entry.name or str(entry.key)}
