"""A caption's attention as one HTML file: hover over words, click patches, choose layer and head.

The file holds its image, maps, script and style. It makes no request, opens without a network, and
works in a frame of a tracker's HTML panel.
"""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmattn.files import write_whole
from mmattn.maps.archive import AttentionRecord
from mmattn.maps.colours import STEEP, VEIL, palette
from mmattn.maps.look import LOOK
from mmattn.maps.scale import FLAT
from mmattn.maps.viewer.page import html_page
from mmattn.maps.viewer.payload import DETAILS, Payload, payload

STYLES = ("page.css", "viewer.css")
SCRIPTS = (
    *("dom.js", "maps.js", "draw.js", "state.js", "panels.js"),
    *("caption.js", "stage.js", "frames.js", "controls.js", "opening.js", "hands.js", "viewer.js"),
)


def viewer_html(
    captions: Sequence[AttentionRecord], *, budget_mb: float = 1.5, home: str | None = None
) -> str:
    """Return a page that shows the attention of one caption, or of a few with a picker.

    Records of one image at several training steps get a slider. The page has at most `budget_mb`
    million bytes: where all does not fit, the image is made smaller, then self-attention and at
    last single heads are left out, and the page says so. Maps are quantised to 8 bits; the page
    says that too. `home` is the address of a page to link back to. Raises `ValueError` for no
    record, or where means over heads do not fit either.
    """
    if not captions:
        raise ValueError("a viewer needs at least one caption")
    budget, size = round(budget_mb * 1e6), 0
    for detail in DETAILS:
        page = _page([payload(record, detail) for record in captions], home)
        size = len(page.encode())
        if size <= budget:
            return page
    raise ValueError(
        f"the attention of {len(captions)} captions takes {size / 1e6:.2f} MB even without single "
        f"heads, and the budget is {budget_mb:g} MB: give fewer captions or a larger budget_mb"
    )


def save_viewer(
    path: str | Path, captions: Sequence[AttentionRecord], *, budget_mb: float = 1.5
) -> None:
    """Write `viewer_html` to a file, whole or not at all; makes the folder if needed."""
    write_whole(path, viewer_html(captions, budget_mb=budget_mb).encode())


def look() -> dict[str, Any]:
    """Return how the library's pictures look, for a page: colours are 256 times RGB, in base64."""
    colours = {
        name: base64.b64encode(palette(LOOK.colours(signed), signed).tobytes()).decode()
        for name, signed in (("heat", False), ("signed", True))
    }
    return {**colours, "veil": VEIL, "steep": STEEP, "alpha": LOOK.alpha, "flat": FLAT}


def _page(payloads: Sequence[Payload], home: str | None) -> str:
    images = list(dict.fromkeys(one.image for one in payloads))  # each picture once
    data: dict[str, Any] = {
        "look": look(),
        "home": home,
        "images": images,
        "captions": [
            {**one.about, "image": images.index(one.image), "block": i}
            for i, one in enumerate(payloads)
        ],
    }
    blocks = [one.tables for one in payloads]
    title = payloads[0].about["key"] or "attention"
    return html_page(f"{title} · attention", "viewer.html", STYLES, SCRIPTS, data, blocks)
