"""One HTML file that needs nothing else: no request leaves it, no text of data becomes markup."""

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any

GENERATOR = '<meta name="generator" content="mmattn">'


def html_page(
    title: str,
    body: str,
    styles: Sequence[str],
    scripts: Sequence[str],
    data: Any,
    blocks: Sequence[str],
) -> str:
    """Return a page made of assets of this package, with JSON `data` and base64 `blocks`.

    The policy lets the page run and style itself by exactly its own script and style sheet, show
    images it holds, and do nothing else: not even markup in a caption that was not escaped could
    load or run anything. Raises `ValueError` for data with NaN, which is no JSON.
    """
    style = "\n".join(asset(name) for name in styles)
    script = "\n".join(['"use strict";', "(() => {", *(asset(name) for name in scripts), "})();"])
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; "
        f"script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'"
    )
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        GENERATOR,
        f"<title>{html.escape(title.encode(errors='replace').decode())}</title>",
        f"<style>{style}</style>",
        "</head>",
        "<body>",
        asset(body),
        f'<script type="application/json" id="data">{as_json(data)}</script>',
        *(
            f'<script type="text/plain" id="block-{i}">{block}</script>'
            for i, block in enumerate(blocks)
        ),
        f"<script>{script}</script>",
        "</body>",
        "</html>",
    ]
    return "\n".join(parts) + "\n"


def as_json(data: Any) -> str:
    """Return JSON that cannot end the script element it stands in, whatever strings it holds."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


@lru_cache(maxsize=16)
def asset(name: str) -> str:
    """Return a file of this package."""
    return files("mmattn.maps.viewer").joinpath(name).read_text("utf-8").strip()


def _hash(text: str) -> str:
    """How a content security policy names an inline script or style (CSP level 3)."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
