"""What people said of images, from a file of any of the usual kinds."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

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
from mmattn.data.captions import excerpt
from mmattn.data.labelled.json_values import fields_fault
from mmattn.data.problems import Problems
from mmattn.errors import DataError

KINDS = (
    'COCO\'s captions ({"images": …, "annotations": …}), Karpathy\'s JSON, JSON or JSONL with '
    '"image" and "captions" or "caption", or lines of `name.jpg#0`, a tab and a caption'
)
TEXTS = ("captions", "references", "caption")
TOKEN_LINE = re.compile(r"([^\t]*[^\t\s])#[0-9]+\t(.*)", re.DOTALL)
ANNOTATION_FIELDS = {"image_id": (int, str), "caption": (str,)}


def read_references(path: str | Path) -> list[Entry]:
    """Return the images of a file that have captions, each once, in the file's order.

    Raises:
        DataError: for a file that cannot be read or is of no known kind, and one that names every
            entry that is wrong, by its line or place.
    """
    document = read_document(Path(path))
    problems = Problems(document.path)
    entries = list(_entries(document, problems))
    problems.raise_if_any("Correct these entries.")
    found = [entry for entry in entries if entry.captions]
    if not found:
        raise DataError(f"{path} has no image with a caption: give a file of references")
    return found


def _entries(document: Document, problems: Problems) -> Iterator[Entry]:
    """Read a document by what it looks like."""
    value = document.value
    if document.kind == "text":
        return _token_lines(document, problems)
    if document.kind == "jsonl":
        return _objects([(str(line), each) for line, each in value], document, problems)
    if isinstance(value, dict) and "annotations" in value:
        return _coco(value, document, problems)
    images = value.get("images") if isinstance(value, dict) else None
    if isinstance(images, list) and images and isinstance(images[0], dict):
        if "sentences" in images[0]:
            return _karpathy(images, problems)
        return _objects(
            [(f"images[{i}]", each) for i, each in enumerate(images)], document, problems
        )
    if isinstance(value, dict) and key_field(value) is not None:
        return _objects([("1", value)], document, problems)
    if isinstance(value, list) and value:
        return _objects([(f"[{i}]", each) for i, each in enumerate(value)], document, problems)
    raise unknown(document)


def unknown(document: Document) -> DataError:
    """Say that a file is of no known kind, and which there are."""
    return DataError(
        f"{document.path} {beginning(document)}, which is no file of references: {KINDS}"
    )


def _coco(value: Mapping[str, Any], document: Document, problems: Problems) -> Iterator[Entry]:
    """COCO's official JSON; "images" tells the names of files, and may be missing."""
    fault = fields_fault(value, {"annotations": (list,)})
    fault = fault or (fields_fault(value, {"images": (list,)}) if "images" in value else None)
    if fault is not None:
        raise DataError(f"{document.path}: {fault}. Captions in COCO's JSON have lists of both.")
    names = _coco_names(value.get("images", []), problems)
    texts: dict[Key, list[str]] = {key: [] for key in names}
    for i, entry in enumerate(value["annotations"]):
        fault = fields_fault(entry, ANNOTATION_FIELDS)
        if fault is None and names and entry["image_id"] not in names:
            fault = f"there is no image with the id {shown_key(entry['image_id'])}"
        if fault is not None:
            problems.add(f"annotations[{i}]", fault)
        else:
            texts.setdefault(entry["image_id"], []).append(entry["caption"])
    for key, own in texts.items():
        yield Entry(key, tuple(own), names.get(key, named(key)), f"image_id {key}")


def _coco_names(images: list[Any], problems: Problems) -> dict[Key, str | None]:
    """Return id -> name of the file, as far as it is told."""
    names: dict[Key, str | None] = {}
    for i, entry in enumerate(images):
        fault = fields_fault(entry, {"id": (int, str)})
        if fault is None and entry["id"] in names:
            fault = f"the id {shown_key(entry['id'])} again"
        if fault is not None:
            problems.add(f"images[{i}]", fault)
        else:
            name = entry.get("file_name")
            names[entry["id"]] = name if isinstance(name, str) else None
    return names


def _karpathy(images: list[Any], problems: Problems) -> Iterator[Entry]:
    """Karpathy's JSON; images of COCO go by COCO's number."""
    seen: dict[Key, str] = {}
    for i, entry in enumerate(images):
        place = f"images[{i}]"
        fault = fields_fault(entry, {"filename": (str,), "split": (str,), "sentences": (list,)})
        faults = (
            [fault] if fault else [fields_fault(s, {"raw": (str,)}) for s in entry["sentences"]]
        )
        for fault in filter(None, faults):
            problems.add(place, fault)
        if any(faults):
            continue
        name, key = entry["filename"], entry.get("cocoid")
        key = key if isinstance(key, int) else name
        if seen.setdefault(key, place) != place:
            problems.add(place, f"image {shown_key(key)} again, first {seen[key]}")
        texts = tuple(sentence["raw"] for sentence in entry["sentences"])
        yield Entry(key, texts, name, place, entry["split"])


def _token_lines(document: Document, problems: Problems) -> Iterator[Entry]:
    """Flickr8k's and Flickr30k's token file."""
    lines = [(i, line) for i, line in enumerate(document.value, start=1) if line.strip()]
    if TOKEN_LINE.fullmatch(lines[0][1]) is None:
        raise unknown(document)
    rows: list[tuple[str, Key, tuple[str, ...]]] = []
    for number, line in lines:
        match = TOKEN_LINE.fullmatch(line)
        if match is None:
            problems.add(number, f"no `name.jpg#0`, tab, caption: {excerpt(line)}")
        else:
            rows.append((str(number), match[1], (match[2],)))
    return _together(rows)


def _objects(
    objects: Iterable[tuple[str, Any]], document: Document, problems: Problems
) -> Iterator[Entry]:
    """Objects of an image each, or of a caption each."""
    rows: list[tuple[str, Key, tuple[str, ...]]] = []
    for i, (place, entry) in enumerate(objects):
        fault = key_fault(entry)
        field = None if fault else next((name for name in TEXTS if name in entry), None)
        if i == 0 and field is None:
            raise unknown(document)
        if fault is None and field is None:
            fault = f"no captions: none of {', '.join(map(repr, TEXTS))}"
        if fault is not None:
            problems.add(place, fault)
        elif field is not None:
            texts = texts_of(entry[field], field, place, problems)
            rows.append((place, entry[str(key_field(entry))], texts))
    return _together(rows)


def _together(rows: Iterable[tuple[str, Key, tuple[str, ...]]]) -> Iterator[Entry]:
    """Yield an entry for each image, which may have several rows."""
    found: dict[Key, Entry] = {}
    for place, key, texts in rows:
        entry = found.get(key, Entry(key, (), named(key), place))
        found[key] = entry._replace(captions=entry.captions + texts)
    yield from found.values()
