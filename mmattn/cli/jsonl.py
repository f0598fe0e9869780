"""A JSONL file that grows line by line, and may be cut at any time and gone on with."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from mmattn.errors import DataError


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a JSONL file, without a last line that was cut off.

    Raises:
        DataError: for a line that is no JSON object, by its number.
    """
    if not path.exists():
        return []
    found = []
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines[:-1], 1):  # what follows the last line break is cut off
        try:
            value = json.loads(line)
        except ValueError as error:
            raise DataError(
                f"{path}, line {number}: no JSON ({error}): mend or remove it"
            ) from None
        if not isinstance(value, dict):
            raise DataError(f"{path}, line {number}: no JSON object: give another file")
        found.append(value)
    return found


def cut_torn_line(path: Path) -> None:
    """Remove what follows the last line break: a line that a killed program did not finish."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        whole = file.read().rfind(b"\n") + 1
        file.truncate(whole)


def line_of(value: dict[str, Any]) -> str:
    """Return one object as a line."""
    return json.dumps(value, ensure_ascii=False) + "\n"


def write_line(file: TextIO, value: dict[str, Any]) -> None:
    """Write one object and hand it over at once: a reader, or a next run, sees whole lines."""
    file.write(line_of(value))
    file.flush()


@contextmanager
def appending(path: Path | None) -> Iterator[TextIO]:
    """Open a file to go on with, or stdout for None; its folder is made if needed."""
    if path is None:
        yield sys.stdout
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    cut_torn_line(path)
    with path.open("a", encoding="utf-8") as file:
        try:
            yield file
        finally:
            file.flush()
            os.fsync(file.fileno())
