"""A JSONL file that grows line by line, and may be cut at any time and gone on with."""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BufferedIOBase, RawIOBase
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from mmattn.errors import DataError
from mmattn.pipeline.json_line import json_line

Bytes = BinaryIO | BufferedIOBase | RawIOBase  # a file, or what stdout's text goes to
STARTS = (b'{"image": ', b'{"text": ')  # of every line that this library writes


class Kind(NamedTuple):
    """What the lines of a file are about.

    name: in messages. says: the names of which a line has one, unless it has an "error". text:
    whether a line may be about a text, and without an image.
    """

    name: str
    says: tuple[str, ...]
    text: bool


CAPTIONS = Kind("captions", ("caption",), text=False)
FINDS = Kind("finds", ("found",), text=True)
CLASSES = Kind("classes", ("label", "heads"), text=True)


class Line(NamedTuple):
    """A line about one input: its bytes, with the line break, and what matters of it here.

    key: what it is about, see `key_of`. bad: whether it says what was wrong.
    """

    raw: bytes
    key: str
    bad: bool


def key_of(image: str | Sequence[str] | None, text: str | Sequence[str] | None) -> str:
    """Return by what an input is known: the name of its image; with a text, or several, of all."""
    if text is None and isinstance(image, str):
        return image
    return json.dumps([image, text])


def read_lines(path: Path, kind: Kind) -> Iterator[Line]:
    """Yield the whole lines of a file, none where there is no file.

    What follows the last line break is left out: a killed program did not finish it.

    Raises:
        DataError: for a line that is no JSON object of this kind, by its number.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            if not raw.endswith(b"\n"):
                check_torn(raw, kind, f"{path}, line {number}")
                return
            yield line_about(raw, kind, f"{path}, line {number}")


def line_about(raw: bytes, kind: Kind, where: str) -> Line:
    """Return a line. Raises DataError where it is none of this kind."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: no JSON ({error}): mend or remove it") from None
    about = value if isinstance(value, dict) else {}
    image, text = about.get("image"), about.get("text") if kind.text else None
    if not (named(image, kind) or (image is None and named(text, kind))):
        wanted = '"image" or a "text"' if kind.text else '"image"'
        raise DataError(f"{where}: no JSON object with an {wanted}: give another file with --out")
    if not {"error", *kind.says} & about.keys():
        raise DataError(f"{where}: no line of {kind.name}: give another file with --out")
    return Line(raw, key_of(image, text), "error" in about)


def named(value: Any, kind: Kind) -> bool:
    """Return whether this names something: a text, or several where a line may be of a text."""
    several = isinstance(value, list) and all(isinstance(one, str) for one in value)
    return isinstance(value, str) or (kind.text and several)


def check_torn(rest: bytes, kind: Kind, where: str) -> None:
    """Raise DataError for what cannot be the beginning of a line of this kind."""
    starts = STARTS if kind.text else STARTS[:1]
    if not any(rest.startswith(start[: len(rest)]) for start in starts):
        raise DataError(f"{where}: no line of {kind.name}: give another file with --out")


def mend(path: Path, kind: Kind) -> None:
    """Remove what a killed program did not finish, if it did not finish its last line.

    A last line that is whole but for its line break is given one. Raises DataError, and changes
    nothing, where any line is of another kind: it is another file.
    """
    whole = sum(len(line.raw) for line in read_lines(path, kind))
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
