"""A page of all images that were scored, to sort by any score: one HTML file."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmattn.data.caption_files.entry import Key
from mmattn.maps.viewer.page import html_page
from mmattn.reports.scores.per_image import image_rows
from mmattn.reports.scores.pictures import Pictures
from mmattn.reports.scores.result import Result
from mmattn.reports.scores.text import (
    FOOTNOTE,
    LOWER_IS_BETTER,
    TITLES,
    heading,
    legend,
    shortened,
    tables,
)

# By what rows are sorted at first, if it is there.
FIRST = "CIDEr"
log = logging.getLogger(__name__)


def score_page(
    result: Result,
    page: Path,
    photos: Path | None = None,
    attention: Path | None = None,
    names: Mapping[Key, Path] | None = None,
) -> str:
    """Return a page with a row for each image: its captions, its references and every score.

    Rows are drawn some at a time, so many thousands stay usable. The file makes no request; only
    links to pages of attention lead out of it, to files beside it. What could not be shown is said
    on the page and in the log.

    Args:
        result: the scores.
        page: where the page will be.
        photos: a folder of photos, which are put into the page, small.
        attention: the folder that `mmattn caption --attention` wrote.
        names: image -> by which path below `attention` its files go, without their suffix.
    """
    pictures = Pictures(page, photos, attention, names or {})
    rows: list[dict[str, Any]] = []
    for pair, row in zip(result.systems[0].corpus.pairs, image_rows(result), strict=True):
        rows.append(row | pictures.of(pair))
    for note in pictures.notes:
        log.warning("%s: %s", page.name, note)
    data = {
        "title": f"Captions of {Path(result.systems[0].file).name}",
        # A page may be shown to others: no path of this machine is on it.
        "facts": heading(result, Path(result.references).name),
        "files": [shortened(Path(system.file).name) for system in result.systems],
        "tables": tables(result),
        "legend": [*legend(result), FOOTNOTE],
        "columns": columns(rows[0]["scores"]),
        "rows": rows,
        "notes": [*result.notes, *pictures.notes],
    }
    scripts = ("dom.js", "score.js")
    return html_page(data["title"], "score.html", ("page.css", "score.css"), scripts, data, [])


def columns(scores: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what there is to sort by: a name, a title, and whether the worst are the largest."""
    titles = {**TITLES, "length": "words", "CHAIR_s": "CHAIR_s", "novel": "new"}
    return [
        {
            "name": name,
            "title": titles.get(name, name),
            "worst": "high" if name in LOWER_IS_BETTER else "low",
            "first": name == FIRST,
        }
        for name in scores
    ]
