"""How `mmattn retrieve` tells what it found: JSON lines in a file or a pipe, a table on a terminal.

A file is written whole: it is what the images are now, so nothing in it is gone on with.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmattn.cli.jsonl import FINDS, read_lines
from mmattn.errors import DataError
from mmattn.files import write_whole
from mmattn.pipeline.json_line import json_line
from mmattn.pipeline.retrieval import Retrieval


def check_ours(out: Path | None) -> None:
    """Raise DataError for a file of anything else, which would be lost."""
    if out is None or not out.exists():
        return
    whole = sum(len(line.raw) for line in read_lines(out, FINDS))
    if whole < out.stat().st_size:
        raise DataError(f"{out}: its last line is no line of {FINDS.name}: give another file")


def tell(found: Sequence[Retrieval], out: Path | None, *, json: bool) -> None:
    """Write what was found.

    Args:
        found: of each query.
        out: the file; None for stdout.
        json: lines of JSON also on a terminal.

    Raises:
        BrokenPipeError: where stdout is closed.
    """
    lines = b"".join(json_line(one.to_dict()) for one in found)
    if out is not None:
        write_whole(out.resolve(), lines)  # a link stays one
    elif sys.stdout is None:
        raise BrokenPipeError
    elif json or not sys.stdout.isatty():
        sys.stdout.buffer.write(lines)
    else:
        print("\n\n".join("\n".join(table(one)) for one in found))


def table(found: Retrieval) -> Iterator[str]:
    """Yield the lines that a person reads: the query, and what fits it, best first."""
    matched = any(hit.match is not None for hit in found.hits)
    yield printable(found.query)
    yield "  similarity  " + "match  " * matched + found.kind
    for hit in found.hits:
        match = f"{'' if hit.match is None else f'{hit.match:.3f}':>5}  " if matched else ""
        yield f"  {hit.similarity:10.3f}  {match}{printable(hit.name)}"


def printable(text: str) -> str:
    """Return a text without what a terminal would obey, or could not show."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)
