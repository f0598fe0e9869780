"""A decision as one HTML file: choose a class, see which patches and which words argued for it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmattn.files import write_whole
from mmattn.maps.archive import bounded
from mmattn.maps.decision_record import DecisionRecord, SeenImage
from mmattn.maps.viewer import look
from mmattn.maps.viewer.page import html_page
from mmattn.maps.viewer.payload import between, data_address
from mmattn.maps.viewer.tables import Tables

STYLES = ("page.css", "viewer.css", "decision.css")
SCRIPTS = (
    *("dom.js", "maps.js", "draw.js", "decision_state.js", "decision_draw.js"),
    *(
        "frames.js",
        "controls.js",
        "opening.js",
        "decision_hands.js",
        "decision_build.js",
        "decision.js",
    ),
)
SIDES = (512, 384, 256, 128)  # pixels of an image's longer side, for pages that must stay small


def decision_page(
    decisions: Sequence[DecisionRecord], *, budget_mb: float = 6.0, home: str | None = None
) -> str:
    """Return a page that shows what argued for each class, of one decision or of a few.

    The page has at most `budget_mb` million bytes: where all does not fit, images are made smaller,
    and the page says so. Relevance is quantised to 8 bits; the page says that too. `home` is the
    address of a page to link back to. Raises `ValueError` for no record, or where small images do
    not fit either.
    """
    if not decisions:
        raise ValueError("a page of decisions needs at least one")
    budget, size = round(budget_mb * 1e6), 0
    for side in SIDES:
        page = _page(decisions, side, home)
        size = len(page.encode())
        if size <= budget:
            return page
    raise ValueError(
        f"{len(decisions)} decisions take {size / 1e6:.2f} MB even with small images, and the "
        f"budget is {budget_mb:g} MB: give fewer decisions or classes, or a larger budget_mb"
    )


def save_decision_page(
    path: str | Path, decisions: Sequence[DecisionRecord], *, budget_mb: float = 6.0
) -> None:
    """Write `decision_page` to a file, whole or not at all; makes the folder if needed."""
    write_whole(path, decision_page(decisions, budget_mb=budget_mb).encode())


def _page(decisions: Sequence[DecisionRecord], side: int, home: str | None) -> str:
    addresses: dict[str, int] = {}  # each picture once
    shown, blocks = [], []
    for block, record in enumerate(decisions):
        tables = Tables()
        about = _about(record, side, tables, addresses)
        shown.append({**about, "block": block, "rows": tables.rows})
        blocks.append(tables.packed())
    data = {"look": look(), "home": home, "images": list(addresses), "decisions": shown}
    title = decisions[0].key or "decision"
    return html_page(f"{title} · decision", "decision.html", STYLES, SCRIPTS, data, blocks)


def _about(
    record: DecisionRecord, side: int, tables: Tables, addresses: dict[str, int]
) -> dict[str, Any]:
    return {
        "key": record.key,
        "step": record.step,
        "text": record.text,
        "truth": record.truth,
        "missing": record.missing,
        "words": [word.text for word in record.words],
        "between": between(record.text or "", record.words),
        "tokens": [token.strip() for token in record.tokens],
        "grid": record.grid,
        "images": [_image(one, side, addresses) for one in record.images],
        "heads": [_head(record, head, tables) for head in record.heads],
        "notes": [note for one in record.images for note in _notes(one, side)],
    }


def _image(one: SeenImage, side: int, addresses: dict[str, int]) -> dict[str, Any]:
    """What is known of an image, with the place of its data address."""
    address = data_address(bounded(one.image, side))
    return {
        "name": one.name,
        "address": addresses.setdefault(address, len(addresses)),
        "size": one.placement.size,
        "box": one.placement.box,
    }


def _head(record: DecisionRecord, head: str, tables: Tables) -> dict[str, Any]:
    """The classes of a head, and their relevance: a row for each class in each table."""
    places = record.heads[head]
    classes = [record.classes[place] for place in places]

    def table(values: np.ndarray) -> dict[str, Any]:
        rows = values.reshape(len(places), -1)
        return tables.add(rows, words=len(places))._asdict()

    images = record.image_relevance[places]
    has_text = record.text is not None
    return {
        "name": head,
        "classes": [
            {
                "label": one.label,
                "probability": one.probability,
                "word": one.word,
                "right": one.role == "right",
            }
            for one in classes
        ],
        "images": [table(images[:, m]) for m in range(len(record.images))],
        "tokens": table(record.text_relevance[places]) if has_text else None,
        "words": table(record.word_relevance[places]) if has_text and record.words else None,
    }


def _notes(one: SeenImage, side: int) -> list[str]:
    """What this page does not hold though the record, or the file of the image, does."""
    height, width = bounded(one.image, side).shape[:2]
    if (height, width) == one.placement.size:
        return []
    size = one.placement.size
    return [f"{one.name} is shown at {width} × {height} of its {size[1]} × {size[0]} pixels."]
