"""One page for all explained decisions of a run: probe examples over training, and mistakes."""

import base64
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmattn.errors import DataError
from mmattn.files import write_whole
from mmattn.maps.decision_archive import load_decision
from mmattn.maps.decision_record import DecisionRecord
from mmattn.maps.decision_sheet import decision_line, decision_sheet
from mmattn.maps.gallery import STEP, check_free, npz_files, thinned
from mmattn.maps.png import encoded
from mmattn.maps.viewer.page import html_page

FOLDER, INDEX = "decisions", "index.html"
MOST_STEPS = 24  # that are shown: more would make the page slow, and look the same
PNG = b"\x89PNG\r\n\x1a\n"


class DecisionGallery(NamedTuple):
    """The page, how many decisions it shows, and what could not be read, a line each."""

    page: Path
    decisions: int
    unreadable: tuple[str, ...]


class Drawn(NamedTuple):
    """A record and its picture as the bytes of a PNG file."""

    record: DecisionRecord
    png: bytes


def holds_decisions(folder: Path) -> bool:
    """Whether a folder is the run of a classifier, or the decisions of one."""
    return (folder / FOLDER).is_dir() or folder.name == FOLDER


def decisions_folder(folder: Path) -> Path:
    """Return where the decisions of a run, or of any folder, lie. Raises DataError for none."""
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else "does not exist"
        raise DataError(f"{folder} {what}: give the directory of a run, or one with *.npz files")
    return folder / FOLDER if (folder / FOLDER).is_dir() else folder


def build_decision_gallery(
    folder: str | Path, out: str | Path | None = None, *, budget_mb: float = 20.0
) -> DecisionGallery:
    """Write `index.html` about the decisions of a run, or of any folder, to `out` or beside them.

    The page holds its pictures, script and style, and makes no request. It has about `budget_mb`
    million bytes at most: where all steps do not fit, some between the first and the last are left
    out, and the page says so. Links are not followed. A picture that lies beside its numbers is
    taken as it is, else drawn again.

    Raises:
        DataError: where there is no decision that can be read, and for an `index.html` in `out`
            that is not such a page.
        OSError: where `out` cannot be written.
    """
    folder = Path(folder)
    source = decisions_folder(folder)
    out = source if out is None else Path(out)
    check_free(out)
    unreadable: list[str] = []
    paths, steps = _chosen(source)
    drawn = list(_read(paths, unreadable))
    if not drawn:
        raise DataError(
            f"none of the files in {source} can be shown; {unreadable[0]}"
            if unreadable
            else f"{source} holds no decision: no *.npz file lies in it or below it"
        )
    shown = _fitting(drawn, round(budget_mb * 1e6))
    # A page may be shown to others: it names files by their place in the folder.
    lines = [line.removeprefix(f"{source}{os.sep}") for line in unreadable]
    title = (folder if source != folder else folder.parent).resolve().name
    all_steps = max(steps, len({one.record.step for one in drawn} - {None}))
    write_whole(out / INDEX, _page(title, shown, all_steps, lines).encode())
    return DecisionGallery(out / INDEX, len(shown), tuple(unreadable))


def _chosen(source: Path) -> tuple[list[Path], int]:
    """Return the files of as many steps as are ever shown, and how many steps there are."""
    paths = {path: _step(path.relative_to(source)) for path in npz_files(source)}
    steps = sorted({step for step in paths.values() if step is not None})
    kept = {*thinned(steps, MOST_STEPS), None}
    return [path for path, step in paths.items() if step in kept], len(steps)


def _step(path: Path) -> int | None:
    """Return the last step that the folders of a file name; None without one."""
    found = [int(match[1]) for part in path.parts if (match := STEP.fullmatch(part))]
    return found[-1] if found else None


def _read(paths: Sequence[Path], unreadable: list[str]) -> Iterator[Drawn]:
    for path in paths:
        try:
            record = load_decision(path)
        except DataError as error:
            unreadable.append(str(error))
            continue
        picture = path.with_suffix(".png")
        png = picture.read_bytes() if picture.is_file() and not picture.is_symlink() else b""
        yield Drawn(record, png if png.startswith(PNG) else encoded(decision_sheet(record)))


def _fitting(drawn: Sequence[Drawn], budget: int) -> list[Drawn]:
    """Return what is shown: as many steps as fit."""
    steps = sorted({one.record.step for one in drawn if one.record.step is not None})
    most = min(MOST_STEPS, max(len(steps), 1))
    while True:
        kept = {*thinned(steps, most), None}
        shown = [one for one in drawn if one.record.step in kept]
        if most <= 2 or sum(len(one.png) for one in shown) * 4 / 3 <= budget:
            return shown
        most = max(most // 2, 2)


def _page(title: str, shown: Sequence[Drawn], all_steps: int, unreadable: Sequence[str]) -> str:
    steps = sorted({one.record.step for one in shown if one.record.step is not None})
    groups: dict[tuple[str, ...], dict[str, Any]] = {}
    for block, (record, _) in enumerate(shown):
        why = f"{record.why}s" if record.why else ""
        heading = " · ".join(part for part in (record.set, why, *record.heads) if part)
        group = groups.setdefault(
            (heading, record.key),
            {"set": heading, "name": record.key, "references": [], "entries": []},
        )
        group["entries"].append(_entry(record, block))
    for group in groups.values():
        group["entries"].sort(key=lambda entry: -1 if entry["step"] is None else entry["step"])
    data = {
        "title": f"Decisions of {title}",
        "steps": steps,
        "thing": "example",
        "groups": sorted(groups.values(), key=_order),
        "unreadable": unreadable,
        "notes": _notes(len(steps), all_steps),
    }
    blocks = [base64.b64encode(png).decode() for _, png in shown]
    styles = ("page.css", "gallery.css", "decision_cards.css")
    scripts = ("dom.js", "cards.js", "decision_cards.js")
    return html_page(data["title"], "gallery.html", styles, scripts, data, blocks)


def _order(group: dict[str, Any]) -> tuple[Any, ...]:
    """By set and kind; mistakes then by how sure the model was, the surest first."""
    last = group["entries"][-1]
    return group["set"], 0.0 if last["lasting"] else -last["probability"], group["name"]


def _entry(record: DecisionRecord, block: int) -> dict[str, Any]:
    """What the page says of a decision; a mistake is shown at its own step alone."""
    return {
        "step": record.step,
        "caption": decision_line(record),
        "probability": record.classes[0].probability,
        "wrong": record.wrong,
        "lasting": record.why != "mistake",
        "block": block,
    }


def _notes(shown: int, all_steps: int) -> list[str]:
    notes = [
        "Heat and tint: gradient-weighted relevance of a class (Chefer et al. 2021), each class on "
        "its own scale. Mistakes: those that the model was most sure of at a step.",
    ]
    if shown < all_steps:
        notes.append(f"To keep the page small, {shown} of {all_steps} steps are shown.")
    return notes
