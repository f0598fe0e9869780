"""A file of captions as its lines or its JSON, whatever it is called, packed or not."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from mmattn.data.captions import excerpt, read_lines
from mmattn.data.labelled.json_values import parse_json, read_jsonl
from mmattn.errors import DataError


class Document(NamedTuple):
    """What a file holds: its `kind`, and that as Python has it.

    "json": any value. "jsonl": a list of (line, object). "text": a list of lines.
    """

    path: Path
    kind: str
    value: Any


def read_document(path: Path) -> Document:
    """Read a file by what it holds; gzip is unpacked.

    What begins as JSON is JSON: one value, or one object on each line.

    Raises:
        DataError: for a file that is missing, empty, no UTF-8, or JSON that is broken, by its line.
    """
    lines = read_lines(path)
    first = next((line.strip() for line in lines if line.strip()), "")
    if not first:
        raise DataError(f"{path} holds nothing but white space. Copy or download it again.")
    if first[0] not in "{[":
        return Document(path, "text", lines)
    if first[0] == "{" and sum(map(bool, map(str.strip, lines))) > 1 and is_object(first):
        return Document(path, "jsonl", read_jsonl(path))
    return Document(path, "json", parse_json(path, lines))


def is_object(line: str) -> bool:
    """Return whether a line is one JSON object, whole."""
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def beginning(document: Document) -> str:
    """Return how a file begins, for a message about one that is of no known kind."""
    value = document.value
    if document.kind == "text":
        return f"begins with {excerpt(next(line for line in value if line.strip()), 40)}"
    if document.kind == "jsonl":
        value = value[0][1]
    if isinstance(value, list) and not value:
        return "is an empty list"
    if isinstance(value, list):
        value = value[0]
        if not isinstance(value, dict):
            return f"is a list that begins with {excerpt(json.dumps(value), 40)}"
    if not isinstance(value, dict):
        return f"is {excerpt(json.dumps(value), 40)}"
    names = ", ".join(map(repr, list(value)[:6])) or "no field"
    return f"has entries with {names}" if document.kind == "jsonl" else f"holds {names}"
