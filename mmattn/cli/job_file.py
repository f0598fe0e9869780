"""The JSONL file of a job that one process or several write, again and again."""

from collections.abc import Sequence
from glob import escape
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

from mmattn.cli.jsonl import Kind, Line, mend, read_lines
from mmattn.files import write_whole


@runtime_checkable
class Item(Protocol):
    """One input of a job."""

    @property
    def key(self) -> str:
        """What lines call it; see `key_of`."""
        ...

    @property
    def place(self) -> int:
        """Its place among all inputs of the job."""
        ...


T = TypeVar("T", bound=Item)


def begin(out: Path, wanted: Sequence[T], *, retry: bool, kind: Kind) -> list[T]:
    """Make a file ready to be gone on with; return the inputs that it does not have yet.

    Args:
        out: the file; it need not exist.
        wanted: the inputs of the job.
        retry: those of them that the file has with an error are taken out of it.
        kind: of its lines.

    Raises:
        DataError: for a file of anything else; it stays as it is.
    """
    mend(out, kind)
    merge_parts(out, wanted, kind)  # of a job that was killed
    if retry:
        drop_failed(out, {one.key for one in wanted}, kind)
    have = {line.key for line in read_lines(out, kind)}
    return [one for one in wanted if one.key not in have]


def drop_failed(out: Path, keys: set[str], kind: Kind) -> None:
    """Remove the lines that say of one of these inputs what was wrong with it."""
    lines = list(read_lines(out, kind))
    kept = [line.raw for line in lines if not (line.bad and line.key in keys)]
    if len(kept) < len(lines):
        write_whole(out.resolve(), b"".join(kept))  # a link stays one


def part(out: Path, rank: int) -> Path:
    """Return the file that one of several processes writes, beside the one that they all make."""
    return out.with_name(f".{out.name}.rank-{rank}")


def merge_parts(out: Path, wanted: Sequence[Item], kind: Kind) -> None:
    """Put what processes wrote behind the lines of the file, each input once, and remove it.

    In the order of the inputs. If this is killed, doing it again gives the same.
    """
    parts = sorted(out.parent.glob(f".{escape(out.name)}.rank-*"))
    if not parts:
        return
    have = {line.key for line in read_lines(out, kind)}
    newer: dict[str, Line] = {line.key: line for one in parts for line in read_lines(one, kind)}
    places = {one.key: one.place for one in wanted}
    added = [line for key, line in newer.items() if key not in have]
    added.sort(key=lambda line: places.get(line.key, len(places)))
    with out.open("ab") as file:
        file.writelines(line.raw for line in added)
    for one in parts:
        one.unlink()


def unreadable(out: Path, wanted: Sequence[Item], kind: Kind) -> int:
    """Return how many of the inputs a file has with an error."""
    bad = {line.key for line in read_lines(out, kind) if line.bad}
    return sum(one.key in bad for one in wanted)
