"""What is worth telling of a data set: how many, which ones, and files that are the same."""

import difflib
import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from itertools import chain
from pathlib import Path

# How notes on images begin that are there more than once.
LEAKED, REPEATED = (
    "Leak: byte-identical photos in different splits",
    "Byte-identical photos within one split, kept",
)
SHARED = "Leak: the same image in different splits"


def some(names: Collection[str]) -> str:
    """Return how many `names` there are and the first three."""
    shown = ", ".join([*names][:3]) + (", ..." if len(names) > 3 else "")
    return f"{len(names):,} ({shown})"


def nearest(name: str, names: Iterable[str]) -> str:
    """Return a hint at the one of `names` that resembles `name` most; nothing if none does."""
    found = difflib.get_close_matches(name, names, n=1)
    return f" (nearest: {found[0]!r})" if found else ""


def listing(lines: Collection[str], shown: int = 10) -> str:
    """Return the first `shown` of `lines`, indented, one a line, and how many more there are."""
    more = len(lines) - shown
    tail = [f"  and {more:,} more"] if more > 0 else []
    return "\n".join([*(f"  {line}" for line in [*lines][:shown]), *tail])


def identical_files(paths: Mapping[str, Path], split_of: Mapping[str, str]) -> list[str]:
    """Return notes on photos that are byte for byte the same, within a split and across splits.

    Only files of equal size are read.
    """
    by_size, by_content = defaultdict(list), defaultdict(list)
    for name, path in paths.items():
        by_size[path.stat().st_size].append(name)
    for name in chain.from_iterable(names for names in by_size.values() if len(names) > 1):
        with paths[name].open("rb") as file:
            by_content[hashlib.file_digest(file, "blake2b").digest()].append(name)
    leaks, repeats = [], []
    for names in (names for names in by_content.values() if len(names) > 1):
        same = " = ".join(f"{name} ({split_of[name]})" for name in sorted(names))
        (repeats if len({split_of[name] for name in names}) == 1 else leaks).append(same)
    notes = []
    if leaks:
        notes.append(f"{LEAKED}: {some(leaks)}")
    if repeats:
        notes.append(f"{REPEATED}: {some(repeats)}")
    return notes
