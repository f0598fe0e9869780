"""What a model says of images: COCO's results JSON, and the lines that `mmattn caption` writes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mmattn.data.caption_files.document import Document, beginning, read_document
from mmattn.data.caption_files.entry import (
    Entry,
    Key,
    key_fault,
    key_field,
    named,
    shown_key,
    texts_of,
)
from mmattn.data.problems import Problems
from mmattn.errors import DataError

KINDS = (
    'COCO\'s results ([{"image_id": …, "caption": …}, …]), or JSON or JSONL with "image" and '
    '"caption", as `mmattn caption --out` writes it'
)
TEXTS = ("caption", "captions")


class Predictions(NamedTuple):
    """The captions of a model, and images for which the file has an error instead."""

    entries: list[Entry]
    unreadable: list[Key]


def read_predictions(path: str | Path) -> Predictions:
    """Return the captions of each image, the first of which is scored, in the file's order.

    Raises:
        DataError: for a file that cannot be read, is of another kind or has no prediction, and one
            that names every entry that is wrong or of an image that was there before.
    """
    document = read_document(Path(path))
    problems, unreadable = Problems(document.path), []
    entries: list[Entry] = []
    seen: dict[Key, str] = {}
    for i, (place, value) in enumerate(_objects(document)):
        fault = key_fault(value)
        if i == 0 and (fault or not {*TEXTS, "error"} & value.keys()):
            raise _unknown(document, fault)
        fault = fault or _fault(value, seen)
        if fault is not None:
            problems.add(place, fault)
            continue
        key = value[str(key_field(value))]
        seen[key] = place
        if "error" in value and not set(TEXTS) & value.keys():
            unreadable.append(key)
        else:
            entries.append(Entry(key, _texts(value, place, problems), named(key), place))
    problems.raise_if_any("Correct these entries: one an image, with a caption.")
    if not entries:
        raise DataError(f"{path} has no prediction: there is nothing to score")
    return Predictions(entries, unreadable)


def _objects(document: Document) -> Iterator[tuple[str, Any]]:
    """Yield the entries of a document, each with its place."""
    value = document.value
    if document.kind == "jsonl":
        yield from ((str(line), entry) for line, entry in value)
    elif document.kind == "json" and isinstance(value, list):
        yield from ((f"[{i}]", entry) for i, entry in enumerate(value))
    elif document.kind == "json" and isinstance(value, dict) and key_field(value) is not None:
        yield "1", value
    else:
        raise _unknown(document)


def _unknown(document: Document, fault: str | None = None) -> DataError:
    """Say that a file is of another kind; `fault` is what its first entry lacks."""
    hint = "" if fault is None else f" ({fault})"
    if isinstance(document.value, dict) and "annotations" in document.value:
        hint = " (it may be one of references)"
    told = f"{document.path} {beginning(document)}, which is no file of predictions{hint}"
    return DataError(f"{told}: give {KINDS}")


def _fault(value: Any, seen: dict[Key, str]) -> str | None:
    """Return what is wrong with an entry that names an image, or None."""
    key = value[str(key_field(value))]
    shown = shown_key(key)
    if key in seen:
        return f"image {shown} again, first {seen[key]}: several captions of an image are a list"
    if not {*TEXTS, "error"} & value.keys():
        return f"image {shown} has no 'caption'"
    if value.get("captions") == []:
        return f"image {shown} has no caption: 'captions' is empty"
    return None


def _texts(value: dict[str, Any], place: str, problems: Problems) -> tuple[str, ...]:
    """Return the captions of an image: its best, then others."""
    field = next(name for name in TEXTS if name in value)
    texts = texts_of(value[field], field, place, problems)
    others = value.get("others", [])
    for i, other in enumerate(others if isinstance(others, list) else []):
        text = other.get("caption") if isinstance(other, dict) else None
        texts += texts_of(text, f"others[{i}].caption", place, problems)
    return texts
