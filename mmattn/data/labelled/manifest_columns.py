"""Which columns of a manifest hold what: the configuration, checked before any file is read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from mmattn.data.findings import nearest
from mmattn.data.labelled.example import HeadSpec, Kind
from mmattn.errors import ConfigError

KINDS = get_args(Kind)
INPUTS = ("key", "image", "text", "split")
HEAD_KEYS = ("column", "kind", "separator", "classes", "open", "most_common")


@dataclass(frozen=True)
class HeadColumn:
    """Where a head's labels are, and how they are written.

    Attributes:
        column: its name.
        separator: what stands between the labels of a cell that is text, for "multi" and "soft".
        spec: what the head tells.
    """

    column: str
    separator: str | None
    spec: HeadSpec


@dataclass(frozen=True)
class InputColumns:
    """The columns of what is classified; images may be in several. None or (): there is none."""

    key: str | None
    images: tuple[str, ...]
    text: str | None
    split: str | None


def input_columns(columns: Mapping[str, Any]) -> InputColumns:
    """Check the `columns` of the configuration. Raises `ConfigError`."""
    _check_keys("columns", columns, INPUTS)
    given = columns.get("image")
    images = [given] if isinstance(given, str) else list(given or ())
    named = {name: columns.get(name) for name in INPUTS if name != "image"}
    for name, value in [*named.items(), *(("image", image) for image in images)]:
        if value is not None and not (isinstance(value, str) and value):
            raise ConfigError(f"columns.{name} is {value!r}: give the name of a column")
    if not images and named["text"] is None:
        raise ConfigError("columns needs image or text: there is nothing to classify")
    return InputColumns(named["key"], tuple(images), named["text"], named["split"])


def head_columns(heads: Mapping[str, Any], has_text: bool) -> dict[str, HeadColumn]:
    """Check the `heads` of the configuration, head -> its keys. Raises `ConfigError`."""
    if not heads:
        raise ConfigError("heads is empty: name a head, as in heads.answer.column=answer")
    found = {name: _head_column(f"heads.{name}", head) for name, head in heads.items()}
    for name, head in found.items():
        if head.spec.kind == "words" and not has_text:
            raise ConfigError(f"heads.{name}.kind is words, and columns.text is not given")
    return found


def _head_column(where: str, head: Any) -> HeadColumn:
    if not isinstance(head, Mapping):
        raise ConfigError(f"{where} is {head!r}: give {{column: …, kind: …}}")
    _check_keys(where, head, HEAD_KEYS)
    column, kind = head.get("column"), head.get("kind", "single")
    if not (isinstance(column, str) and column):
        raise ConfigError(f"{where}.column is {column!r}: give the name of a column")
    if kind not in KINDS:
        raise ConfigError(
            f"{where}.kind is {kind!r}{nearest(str(kind), KINDS)}: give one of {', '.join(KINDS)}"
        )
    separator = head.get("separator")
    if separator is not None and kind not in ("multi", "soft"):
        raise ConfigError(f"{where} has a separator, and its kind is {kind}, not multi or soft")
    if separator is not None and not (isinstance(separator, str) and separator.strip()):
        raise ConfigError(f"{where}.separator is {separator!r}: give a visible character")
    classes = head.get("classes")
    spec = HeadSpec(
        kind,
        None if classes is None else _classes(where, classes),
        bool(head.get("open", False)),
        head.get("most_common"),
    )
    return HeadColumn(column, separator, spec)


def _classes(where: str, classes: Any) -> tuple[str, ...]:
    """Return the names of classes; numbers become text, as in the cells of a file."""
    if isinstance(classes, str) or not isinstance(classes, Sequence):
        raise ConfigError(f"{where}.classes is {classes!r}: give a list of names")
    for name in classes:
        if isinstance(name, bool) or not isinstance(name, (str, int)):
            raise ConfigError(
                f"{where}.classes has {name!r}: give names; YAML reads yes, no, on and off as true "
                "and false where they do not stand in quotation marks"
            )
    return tuple(str(name).strip() for name in classes)


def _check_keys(where: str, given: Mapping[str, Any], known: Sequence[str]) -> None:
    for key in given:
        if key not in known:
            raise ConfigError(
                f"{where} has no key {key!r}{nearest(str(key), known)}: {', '.join(known)}"
            )
