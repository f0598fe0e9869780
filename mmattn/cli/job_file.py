"""The JSONL file of a job that one process or several write, again and again."""

from collections.abc import Sequence
from glob import escape
from pathlib import Path

from mmattn.cli.inputs import Input
from mmattn.cli.jsonl import Line, mend, read_lines
from mmattn.files import write_whole


def begin(out: Path, wanted: Sequence[Input], *, retry: bool) -> list[Input]:
    """Make a file ready to be gone on with; return the images that it does not have yet.

    Args:
        out: the file; it need not exist.
        wanted: the images of the job.
        retry: those of them that the file has with an error are taken out of it.

    Raises:
        DataError: for a file of anything else; it stays as it is.
    """
    mend(out)
    merge_parts(out, wanted)  # of a job that was killed
    if retry:
        drop_failed(out, {one.name for one in wanted})
    have = {line.image for line in read_lines(out)}
    return [one for one in wanted if one.name not in have]


def drop_failed(out: Path, images: set[str]) -> None:
    """Remove the lines that say of one of these images what was wrong with it."""
    lines = list(read_lines(out))
    kept = [line.raw for line in lines if not (line.bad and line.image in images)]
    if len(kept) < len(lines):
        write_whole(out.resolve(), b"".join(kept))  # a link stays one


def part(out: Path, rank: int) -> Path:
    """Return the file that one of several processes writes, beside the one that they all make."""
    return out.with_name(f".{out.name}.rank-{rank}")


def merge_parts(out: Path, wanted: Sequence[Input]) -> None:
    """Put what processes wrote behind the lines of the file, each image once, and remove it.

    In the order of the images. If this is killed, doing it again gives the same.
    """
    parts = sorted(out.parent.glob(f".{escape(out.name)}.rank-*"))
    if not parts:
        return
    have = {line.image for line in read_lines(out)}
    newer: dict[str, Line] = {line.image: line for one in parts for line in read_lines(one)}
    places = {one.name: one.place for one in wanted}
    added = [line for name, line in newer.items() if name not in have]
    added.sort(key=lambda line: places.get(line.image, len(places)))
    with out.open("ab") as file:
        file.writelines(line.raw for line in added)
    for one in parts:
        one.unlink()


def unreadable(out: Path, wanted: Sequence[Input]) -> int:
    """Return how many of the images a file has with an error."""
    bad = {line.image for line in read_lines(out) if line.bad}
    return sum(one.name in bad for one in wanted)
