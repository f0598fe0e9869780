"""A page for all the images of a run: strips of their words over training, each with its viewer."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np

from mmattn.errors import DataError
from mmattn.files import write_whole
from mmattn.maps.archive import AttentionRecord, bounded, load_attention
from mmattn.maps.viewer import STYLES, look, viewer_html
from mmattn.maps.viewer.page import GENERATOR, html_page
from mmattn.maps.viewer.payload import data_address
from mmattn.maps.viewer.tables import Tables
from mmattn.maps.words import merge

STEP = re.compile(r"step-(\d+)")
# Steps of one image that are read: more would make its page slow, and look the same.
MOST_STEPS = 24
# Where pages go, in the folder that is read, unless another place is given.
OUT = "gallery"
# The longer side of an image on the page, in pixels.
SIDE = 144


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
    _check_free(out)
    groups, unreadable, entries, viewers = grouped(source, out), [], [], []
    if not groups:
        raise DataError(f"{source} holds no attention: no *.npz file lies in it or below it")
    for group, name in zip(groups, file_names(groups), strict=True):
        records = list(_readable(group, unreadable))
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
    for path in _files(source, out):
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


def _check_free(out: Path) -> None:
    """Refuse to write over a page that is not a gallery, or through a link."""
    index = out / "index.html"
    if out.is_symlink() or index.is_symlink():
        raise DataError(f"{out} is or holds a link, and pages are not written through one")
    if index.exists() and GENERATOR not in index.read_text("utf-8", errors="replace")[:4000]:
        raise DataError(f"{index} is not a gallery: move it away, or choose another folder")


def _files(source: Path, out: Path) -> Iterator[Path]:
    """The NPZ files below a folder; neither linked files nor linked folders."""
    for where, folders, names in os.walk(source, followlinks=False):
        here = Path(where)
        folders[:] = sorted(name for name in folders if (here / name).resolve() != out.resolve())
        for name in sorted(names):
            path = here / name
            if path.suffix == ".npz" and path.is_file() and not path.is_symlink():
                yield path


def _readable(group: Group, unreadable: list[str]) -> Iterator[AttentionRecord]:
    """The records of a group by step; of many the first, the last and some between."""
    for step, path in _thinned(group.files, MOST_STEPS):
        try:
            record = load_attention(path)
        except DataError as error:
            unreadable.append(str(error))
            continue
        yield record if step is None else replace(record, step=step)


def _thinned(files: list[tuple[int | None, Path]], most: int) -> list[tuple[int | None, Path]]:
    """At most `most` of a list, evenly spaced, with both ends."""
    if len(files) <= most:
        return files
    return [files[round(i * (len(files) - 1) / (most - 1))] for i in range(most)]


def _viewer(
    records: Sequence[AttentionRecord], budget_mb: float, unreadable: list[str]
) -> str | None:
    """The page of one image; with fewer steps, the last among them, where all are too large."""
    try:
        return viewer_html(records, budget_mb=budget_mb, home="index.html")
    except ValueError as error:
        if len(records) == 1:
            unreadable.append(f"{records[0].key}: {error}")
            return None
        return _viewer(records[(len(records) - 1) % 2 :: 2], budget_mb, unreadable)


def _entry(group: Group, records: Sequence[AttentionRecord], viewer: str) -> dict[str, Any]:
    """What the index shows of an image."""
    tables = Tables()
    entries = [
        {
            "step": record.step,
            "caption": record.caption,
            "words": [word.text for word in record.words],
            "size": record.placement.size,
            "box": record.placement.box,
            "grid": record.grid,
            "table": tables.add(_word_rows(record))._asdict(),
        }
        for record in records
    ]
    return {
        "set": group.set,
        "name": records[-1].key or group.name,
        "viewer": viewer,
        "references": records[-1].references,
        "image": data_address(bounded(records[-1].image, SIDE)),
        "entries": entries,
        "rows": tables.rows,
        "tables": tables.packed(),
    }


def _word_rows(record: AttentionRecord) -> np.ndarray:
    """Return [W, S]: the last layer's maps of the words, mean over heads."""
    heads = record.cross.weights[-1, :, :, record.prefix :]
    return merge(heads.mean(0, dtype=np.float32), record.words)


def _index(title: str, entries: Sequence[dict[str, Any]], unreadable: Sequence[str]) -> str:
    steps = {entry["step"] for group in entries for entry in group["entries"]}
    data = {
        "title": f"Attention of {title}",
        "look": look(),
        "steps": sorted(step for step in steps if step is not None),
        "groups": [
            {**{k: v for k, v in group.items() if k != "tables"}, "block": i}
            for i, group in enumerate(entries)
        ],
        "unreadable": unreadable,
        "notes": [
            "Each word's map: cross-attention of the last layer, mean over heads, on its own "
            "scale. Open an image for layers, heads and numbers.",
        ],
    }
    return html_page(
        data["title"],
        "gallery.html",
        (STYLES[0], "gallery.css"),
        ("dom.js", "maps.js", "draw.js", "gallery.js"),
        data,
        [group["tables"] for group in entries],
    )
