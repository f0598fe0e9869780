"""One image in a file of captions, and the fields that name it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from mmattn.data.captions import excerpt, is_writable
from mmattn.data.labelled.json_values import type_name
from mmattn.data.problems import Problems

Key = int | str
KEYS = ("image_id", "image", "file_name", "filename", "id")


class Entry(NamedTuple):
    """An image as a file names it, and what the file says of it.

    Attributes:
        key: a number or a name.
        captions: as they are written.
        name: the name of its file, None where only a number is known.
        place: the line, or the entry, for messages.
        split: that the file puts it into, None where it has none.
    """

    key: Key
    captions: tuple[str, ...]
    name: str | None
    place: str
    split: str | None = None


def key_field(entry: Mapping[str, Any]) -> str | None:
    """Return the field that says which image an object is about, None where there is none."""
    return next((name for name in KEYS if name in entry), None)


def key_fault(entry: Any) -> str | None:
    """Return what keeps an object from naming an image, or None."""
    if not isinstance(entry, dict):
        return f"{type_name(entry)}, where an object was expected"
    field = key_field(entry)
    if field is None:
        return f"no field that names the image: {', '.join(map(repr, KEYS[:2]))}"
    value = entry[field]
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return f"{field!r} is {type_name(value)}, where an integer or a name was expected"
    if isinstance(value, str) and not (value.strip() and is_writable(value)):
        return f"{field!r} is {excerpt(value)}, which names no image"
    return None


def text_fault(value: Any, name: str) -> str | None:
    """Return what keeps a JSON value from being a caption, or None."""
    if not isinstance(value, str):
        return f"{name} is {type_name(value)}, where a caption was expected"
    if not is_writable(value):
        return f"{name} holds half a surrogate pair"
    return None


def texts_of(value: Any, name: str, place: str, problems: Problems) -> tuple[str, ...]:
    """Return the captions in a field: one, or a list; `problems` gets those that are no text."""
    if not isinstance(value, list):
        value, names = [value], [repr(name)]
    else:
        names = [repr(f"{name}[{i}]") for i in range(len(value))]
    faults = [text_fault(text, each) for text, each in zip(value, names, strict=True)]
    for fault in filter(None, faults):
        problems.add(place, fault)
    return tuple(text for text, fault in zip(value, faults, strict=True) if fault is None)


def shown_key(key: Key) -> str:
    """Return a key for a message: a name in quotes, a number without, neither of any length."""
    return excerpt(key) if isinstance(key, str) else excerpt(str(key)).replace("'", "")


def named(key: Key) -> str | None:
    """Return a key as the name of a file, None for a number."""
    return key if isinstance(key, str) else None
