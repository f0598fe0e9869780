"""A JSONL file that grows line by line, and may be cut at any time and gone on with."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BufferedIOBase, RawIOBase
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from mmattn.errors import DataError
from mmattn.pipeline.json_line import json_line

Bytes = BinaryIO | BufferedIOBase | RawIOBase  # a file, or what stdout's text goes to
START = b'{"image": '  # of every line that this library writes


class Line(NamedTuple):
    """A line about one image: its bytes, with the line break, and what matters of it here."""

    raw: bytes
    image: str
    bad: bool


def read_lines(path: Path) -> Iterator[Line]:
    """Yield the whole lines of a file, none where there is no file.

    What follows the last line break is left out: a killed program did not finish it.

    Raises:
        DataError: for a line that is no JSON object about an image, by its number.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            if not raw.endswith(b"\n"):
                check_torn(raw, f"{path}, line {number}")
                return
            yield line_about(raw, f"{path}, line {number}")


def line_about(raw: bytes, where: str) -> Line:
    """Return a line. Raises DataError where it is none."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: no JSON ({error}): mend or remove it") from None
    if not isinstance(value, dict) or not isinstance(value.get("image"), str):
        raise DataError(f'{where}: no JSON object with an "image": give another file with --out')
    return Line(raw, value["image"], "error" in value)


def check_torn(rest: bytes, where: str) -> None:
    """Raise DataError for what cannot be the beginning of a line of captions."""
    if not rest.startswith(START[: len(rest)]):
        raise DataError(f"{where}: no line of captions: give another file with --out")


def mend(path: Path) -> None:
    """Remove what a killed program did not finish, if it did not finish its last line.

    A last line that is whole but for its line break is given one. Raises DataError, and changes
    nothing, where any line is not about an image: it is another kind of file.
    """
    whole = sum(len(line.raw) for line in read_lines(path))
    if not path.exists() or path.stat().st_size == whole:
        return
    with path.open("rb+") as file:
        file.seek(whole)
        rest = file.read()
        if is_whole(rest):
            file.write(b"\n")
        else:
            file.truncate(whole)


def is_whole(rest: bytes) -> bool:
    """Return whether a line lacks nothing but its line break."""
    try:
        json.loads(rest)
    except (ValueError, RecursionError):
        return False
    return True


def write_line(file: Bytes, value: Mapping[str, Any]) -> None:
    """Write one object and hand it over at once: a reader, or a next run, sees whole lines."""
    file.write(json_line(value))
    file.flush()


@contextmanager
def appending(path: Path | None) -> Iterator[Bytes]:
    """Open a file to go on with, or stdout for None; its folder is made if needed.

    Raises BrokenPipeError where stdout is closed.
    """
    if path is None:
        if sys.stdout is None:
            raise BrokenPipeError
        yield sys.stdout.buffer
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
