"""From the cells of a table, texts of a CSV file or values of JSON, to labels, texts and images."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from mmattn.data.captions import clean_caption, excerpt
from mmattn.data.labelled.example import Kind, Label
from mmattn.data.labelled.manifest_columns import HeadColumn
from mmattn.errors import DataError

DEFAULT_SEPARATOR = "|"  # of labels within a cell of CSV or TSV


class CellError(Exception):
    """What is wrong with a cell; whoever reads the file adds where it is."""


def is_missing(cell: Any) -> bool:
    """Return whether a cell holds nothing: absent, null, or white space."""
    return cell is None or (isinstance(cell, str) and not cell.strip())


def read_label(cell: Any, head: HeadColumn) -> Label | None:
    """Return the label in a cell, None where it is missing. Raises `CellError`."""
    if is_missing(cell) or (head.spec.kind == "words" and cell == []):
        return None
    return _LABELS[head.spec.kind](cell, head)


def read_text(cell: Any) -> str | None:
    """Return the text in a cell as `clean_caption` leaves it. Raises `CellError`."""
    if isinstance(cell, list):
        raise CellError(f"a list of {len(cell)}, where a text was expected (kind: words takes one)")
    if cell is None:
        return None
    if not isinstance(cell, str):
        raise CellError(f"{_told(cell)}, where a text was expected")
    return _clean(cell)


def read_words(cell: Any) -> tuple[str, ...] | None:
    """Return the words in a cell: a list, or a text with spaces between. Raises `CellError`."""
    return None if is_missing(cell) or cell == [] else _words(cell, "words")


def read_images(cell: Any) -> tuple[str, ...]:
    """Return the image names in a cell: one, or in JSON a list of them. Raises `CellError`."""
    names = cell if isinstance(cell, list) else [] if is_missing(cell) else [cell]
    for name in names:
        if not isinstance(name, str) or not name.strip():
            raise CellError(f"{_told(name)}, where the name of an image file was expected")
    return tuple(name.strip() for name in names)


def _single(cell: Any, head: HeadColumn) -> str:
    if isinstance(cell, list):
        raise CellError(f"a list of {len(cell)} labels for a single-label head: set kind=multi")
    if isinstance(cell, dict):
        raise CellError(f"{len(cell)} labels with scores for a single-label head: set kind=soft")
    return _name(cell)


def _multi(cell: Any, head: HeadColumn) -> tuple[str, ...]:
    if isinstance(cell, dict):
        raise CellError(f"{len(cell)} labels with scores for a multi-label head: set kind=soft")
    if isinstance(cell, str):
        # The separator alone says that none of the classes applies; an empty cell, nothing.
        parts = [] if cell.strip() == head.separator else _parts(cell, head)
    else:
        parts = cell if isinstance(cell, list) else [cell]
    return _distinct([_name(part) for part in parts])


def _soft(cell: Any, head: HeadColumn) -> dict[str, float]:
    if isinstance(cell, str):
        pairs = [_scored(part) for part in _parts(cell, head)]
    elif isinstance(cell, Mapping):
        pairs = list(cell.items())
    else:
        raise CellError(f"{_told(cell)}, where labels with scores were expected")
    names = _distinct([_name(name) for name, _ in pairs])
    scores = [_score(name, score) for name, (_, score) in zip(names, pairs, strict=True)]
    # An answer that is not there scores 0 too: one that never scores more is no class.
    return {name: score for name, score in zip(names, scores, strict=True) if score > 0}


def _tags(cell: Any, head: HeadColumn) -> tuple[str, ...]:
    return _words(cell, "labels")


_LABELS: Mapping[Kind, Callable[[Any, HeadColumn], Label]] = {
    "single": _single,
    "multi": _multi,
    "soft": _soft,
    "words": _tags,
}


def _parts(cell: str, head: HeadColumn) -> list[str]:
    if head.separator is None:
        raise CellError(
            f"the text {excerpt(cell)}, where JSON has a list: give one, or set separator"
        )
    return cell.split(head.separator)


def _scored(part: str) -> tuple[str, str]:
    name, colon, score = part.rpartition(":")
    if not colon:
        raise CellError(f"{excerpt(part)} has no score: write NAME:SCORE")
    return name, score


def _score(name: str, score: Any) -> float:
    """Return a score in [0, 1]."""
    try:
        value = math.nan if isinstance(score, (bool, list, dict)) else float(score)
    except (TypeError, ValueError):
        value = math.nan
    if not 0 <= value <= 1:
        raise CellError(f"the score of {excerpt(name)} is {_told(score)}: give 0 to 1")
    return value


def _words(cell: Any, what: str) -> tuple[str, ...]:
    parts = cell.split() if isinstance(cell, str) else cell
    if not isinstance(parts, list):
        raise CellError(f"{_told(cell)}, where a list of {what} was expected")
    return tuple(_name(part) for part in parts)


def _distinct(names: list[str]) -> tuple[str, ...]:
    for name in names:
        if names.count(name) > 1:
            raise CellError(f"the label {excerpt(name)} {names.count(name)} times")
    return tuple(names)


def _name(value: Any) -> str:
    """Return the name of a class, or a word: text; JSON's integers, true and false become text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if not isinstance(value, str):
        raise CellError(f"{_told(value)}, where a name was expected")
    name = _clean(value)
    if name is None:
        raise CellError("an empty name")
    return name


def _clean(text: str) -> str | None:
    try:
        return clean_caption(text)
    except DataError as error:
        raise CellError(str(error)) from None


def _told(value: Any) -> str:
    """Return a JSON value for a message."""
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return f"an object of {len(value)}"
    return excerpt(value) if isinstance(value, str) else f"{value!r}"
