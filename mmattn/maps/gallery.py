"""A page for all the images of a run: strips of their words over training, each with its viewer."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

import numpy as np

from mmattn.errors import DataError
from mmattn.files import write_whole
from mmattn.maps.archive import AttentionRecord, bounded, load_attention
from mmattn.maps.decision_archive import is_decision, load_decision
from mmattn.maps.decision_record import DecisionRecord
from mmattn.maps.viewer import STYLES, look, viewer_html
from mmattn.maps.viewer.decision_page import decision_page
from mmattn.maps.viewer.page import GENERATOR, html_page
from mmattn.maps.viewer.payload import data_address
from mmattn.maps.viewer.tables import Tables
from mmattn.maps.words import merge

T = TypeVar("T")
STEP = re.compile(r"step-(\d+)")
# Steps of one image that are read: more would make its page slow, and look the same.
MOST_STEPS = 24
# Where pages go, in the folder that is read, unless another place is given.
OUT = "gallery"
# The longer side of an image on the page, in pixels.
SIDE = 144


Record = AttentionRecord | DecisionRecord


class Gallery(NamedTuple):
    """The page of all images, those of single ones, and what could not be shown, a line each."""

    page: Path
    viewers: tuple[Path, ...]
    unreadable: tuple[str, ...]


class Group(NamedTuple):
    """One image of one set over training: its files by step, None where the path names no step."""

    set: str
    name: str
    files: list[tuple[int | None, Path]]


def build_gallery(
    folder: str | Path, out: str | Path | None = None, *, budget_mb: float = 6.0
) -> Gallery:
    """Write `index.html` and a viewer per image for the NPZ files of a run, or of any folder.

    Of a run's directory the folder `attention` is read. Files at `step-…/SET/NAME.npz` are one
    image per SET and NAME, and its steps get a slider. Pages go to `out`, by default `gallery` in
    the folder that is read, and none is larger than about `budget_mb` million bytes an image. Links
    out of the folder are not followed. Files that cannot be read are listed. Raises `DataError`
    where there is no file that can be read, and for an `index.html` in `out` that is not a gallery;
    `OSError` where `out` cannot be written.
    """
    folder = Path(folder)
    source = attention_folder(folder)
    out = Path(out) if out is not None else source / OUT
    check_free(out)
    groups, unreadable, entries, viewers = grouped(source, out), [], [], []
    if not groups:
        raise DataError(f"{source} holds no attention: no *.npz file lies in it or below it")
    for group, name in zip(groups, file_names(groups), strict=True):
        records = _of_one_kind(list(_readable(group, unreadable)), group, unreadable)
        page = _viewer(records, budget_mb, unreadable) if records else None
        if page is not None:
            write_whole(out / name, page.encode())
            viewers.append(out / name)
            entries.append(_entry(group, records, quote(name)))
    if not entries:
        raise DataError(f"none of the files in {source} can be shown; {unreadable[0]}")
    index = out / "index.html"
    # A page may be shown to others: it names files by their place in the folder.
    lines = [line.removeprefix(f"{source}{os.sep}") for line in unreadable]
    write_whole(index, _index(folder.resolve().name, entries, lines).encode())
    return Gallery(index, tuple(viewers), tuple(unreadable))


def attention_folder(folder: Path) -> Path:
    """Return where the maps of a run, or of any folder, lie. Raises `DataError` for no folder."""
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else "does not exist"
        raise DataError(f"{folder} {what}: give the directory of a run, or one with *.npz files")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise DataError(f"{folder} cannot be read: change its permissions, or give another folder")
    return folder / "attention" if (folder / "attention").is_dir() else folder


def grouped(source: Path, out: Path) -> list[Group]:
    """Return the images below a folder, those in `out` excepted, in a fixed order."""
    groups: dict[tuple[str, str], Group] = {}
    for path in npz_files(source, out):
        parts = path.relative_to(source).with_suffix("").parts
        steps = [int(found[1]) for part in parts if (found := STEP.fullmatch(part))]
        *rest, name = [part for part in parts if not STEP.fullmatch(part)] or parts[-1:]
        key = ("/".join(rest), name)
        group = groups.setdefault(key, Group(*key, []))
        group.files.append((steps[-1] if steps else None, path))
    for group in groups.values():
        group.files.sort(key=lambda file: (-1 if file[0] is None else file[0], file[1]))
    return [groups[key] for key in sorted(groups)]


def file_names(groups: Sequence[Group]) -> list[str]:
    """Return a name for each group's page, different also where capitals do not count."""
    names: list[str] = []
    taken = {"index.html"}
    for group in groups:
        plain = "-".join(part for part in (*group.set.split("/"), group.name) if part)
        stem = "".join(c if c.isascii() and (c.isalnum() or c in "+-_.") else "-" for c in plain)
        stem = stem.lstrip(".")[:100] or "image"
        name, number = f"{stem}.html", 1
        while name.lower() in taken:
            number += 1
            name = f"{stem}-{number}.html"
        taken.add(name.lower())
        names.append(name)
    return names


def check_free(out: Path) -> None:
    """Refuse to write over a page that is not a gallery, or through a link."""
    index = out / "index.html"
    if out.is_symlink() or index.is_symlink():
        raise DataError(f"{out} is or holds a link, and pages are not written through one")
    if index.exists() and GENERATOR not in index.read_text("utf-8", errors="replace")[:4000]:
        raise DataError(f"{index} is not a gallery: move it away, or choose another folder")


def npz_files(source: Path, out: Path | None = None) -> Iterator[Path]:
    """The NPZ files below a folder, `out` left out; neither linked files nor linked folders."""
    without = None if out is None else out.resolve()
    for where, folders, names in os.walk(source, followlinks=False):
        here = Path(where)
        folders[:] = sorted(name for name in folders if (here / name).resolve() != without)
        for name in sorted(names):
            path = here / name
            if path.suffix == ".npz" and path.is_file() and not path.is_symlink():
                yield path


def _readable(group: Group, unreadable: list[str]) -> Iterator[Record]:
    """The records of a group by step; of many the first, the last and some between."""
    for step, path in thinned(group.files, MOST_STEPS):
        try:
            record = load_decision(path) if is_decision(path) else load_attention(path)
        except DataError as error:
            unreadable.append(str(error))
            continue
        yield record if step is None else replace(record, step=step)


def _of_one_kind(
    records: Sequence[Record], group: Group, unreadable: list[str]
) -> Sequence[Record]:
    """The records that are of the last one's kind; others have no place on its page."""
    kept = [record for record in records if type(record) is type(records[-1])]
    if len(kept) < len(records):
        name = "/".join(part for part in (group.set, group.name) if part)
        unreadable.append(
            f"{name}: {len(records) - len(kept)} of {len(records)} files hold another kind of map "
            "than the last: keep captions and decisions in different folders"
        )
    return kept


def thinned(files: list[T], most: int) -> list[T]:
    """At most `most` of a list, evenly spaced, with both ends."""
    if len(files) <= most:
        return files
    return [files[round(i * (len(files) - 1) / (most - 1))] for i in range(most)]


def _viewer(records: Sequence[Record], budget_mb: float, unreadable: list[str]) -> str | None:
    """The page of one image; with fewer steps, the last among them, where all are too large."""
    try:
        return _page(records, budget_mb)
    except ValueError as error:
        if len(records) == 1:
            unreadable.append(f"{records[0].key}: {error}")
            return None
        return _viewer(records[(len(records) - 1) % 2 :: 2], budget_mb, unreadable)


def _page(records: Sequence[Record], budget_mb: float) -> str:
    """The page of captions or of decisions."""
    captions = [record for record in records if isinstance(record, AttentionRecord)]
    if captions:
        return viewer_html(captions, budget_mb=budget_mb, home="index.html")
    decisions = [record for record in records if isinstance(record, DecisionRecord)]
    return decision_page(decisions, budget_mb=budget_mb, home="index.html")


def _entry(group: Group, records: Sequence[Record], viewer: str) -> dict[str, Any]:
    """What the index shows of an image, or of a text without one."""
    tables, last = Tables(), records[-1]
    entries = [
        _caption_entry(record, tables)
        if isinstance(record, AttentionRecord)
        else _decision_entry(record, tables)
        for record in records
    ]
    if isinstance(last, AttentionRecord):
        image, references = last.image, last.references
    else:
        image, references = (last.images[0].image if last.images else None), ()
    return {
        "set": group.set,
        "name": last.key or group.name,
        "viewer": viewer,
        "references": references,
        "image": None if image is None else data_address(bounded(image, SIDE)),
        "entries": entries,
        "rows": tables.rows,
        "tables": tables.packed(),
    }


def _caption_entry(record: AttentionRecord, tables: Tables) -> dict[str, Any]:
    return {
        "step": record.step,
        "caption": record.caption,
        "words": [word.text for word in record.words],
        "size": record.placement.size,
        "box": record.placement.box,
        "grid": record.grid,
        "table": tables.add(_word_rows(record))._asdict(),
    }


def _decision_entry(record: DecisionRecord, tables: Tables) -> dict[str, Any]:
    """A strip of the first image, with a map for each class instead of each word."""
    said = [record.in_words(place) for place in range(len(record.classes))]
    best = [said[place] for places in record.heads.values() for place in _told(record, places)]
    asked = "" if record.text is None else f"{record.text.strip()} → "
    truth = "" if record.truth is None else f" (truth: {record.truth})"
    entry = {"step": record.step, "caption": asked + ", ".join(best) + truth, "words": said}
    if not record.images:
        return entry
    placement, rows = record.images[0].placement, record.image_relevance[:, 0]
    table = tables.add(rows.reshape(len(rows), -1))._asdict()
    return {
        **entry,
        "size": placement.size,
        "box": placement.box,
        "grid": record.grid,
        "table": table,
    }


def _told(record: DecisionRecord, places: Sequence[int]) -> Sequence[int]:
    """The places of a head's answer: its most probable class, or the labels of all words."""
    return places if record.classes[places[0]].word is not None else places[:1]


def _word_rows(record: AttentionRecord) -> np.ndarray:
    """Return [W, S]: the last layer's maps of the words, mean over heads."""
    heads = record.cross.weights[-1, :, :, record.prefix :]
    return merge(heads.mean(0, dtype=np.float32), record.words)


def _index(title: str, entries: Sequence[dict[str, Any]], unreadable: Sequence[str]) -> str:
    steps = {entry["step"] for group in entries for entry in group["entries"]}
    data = {
        "title": f"Attention of {title}",
        "look": look(),
        "thing": "image",
        "steps": sorted(step for step in steps if step is not None),
        "groups": [
            {**{k: v for k, v in group.items() if k != "tables"}, "block": i}
            for i, group in enumerate(entries)
        ],
        "unreadable": unreadable,
        "notes": [
            "Each word's map: cross-attention of the last layer, mean over heads, on its own "
            "scale. Each class's map: its relevance on the first image. Open one for numbers and "
            "all else.",
        ],
    }
    return html_page(
        data["title"],
        "gallery.html",
        (STYLES[0], "gallery.css"),
        ("dom.js", "maps.js", "draw.js", "cards.js", "gallery.js"),
        data,
        [group["tables"] for group in entries],
    )
