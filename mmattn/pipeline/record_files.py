"""What argued for classes as files: a page to explore, a picture, numbers; and shown at once."""

import base64
import html
import tempfile
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mmattn.errors import ConfigError
from mmattn.maps.decision_archive import save_decision
from mmattn.maps.decision_record import DecisionRecord
from mmattn.maps.png import encoded, save_png
from mmattn.pipeline.caption import in_notebook

PAGE_MB = 6.0  # what a page may take


def save_record(path: Path, record: DecisionRecord) -> Path:
    """Write a record to a file, whole or not at all: a page, a picture or numbers by its suffix.

    Raises:
        ConfigError: for another suffix, and where it is more than a page holds.
    """
    check_suffix(path)
    WRITERS[path.suffix.lower()](path, record)
    return path


def check_suffix(path: Path, also: tuple[str, ...] = ()) -> None:
    """Raise ConfigError for a file of another kind than these."""
    kinds = sorted([*WRITERS, *also])
    if path.suffix.lower() not in kinds:
        raise ConfigError(f"{path}: what argued for classes is saved as one of {', '.join(kinds)}")


def record_picture(record: DecisionRecord) -> np.ndarray:
    """Return all images and the text under what argued for each class, head below head."""
    from mmattn.maps.decision_sheet import decision_sheet  # with matplotlib, which takes a second

    return decision_sheet(record)


def as_figure(picture: np.ndarray, said: str) -> str:
    """Return a picture as HTML, with what it says in words."""
    data, said = base64.b64encode(encoded(picture)).decode(), html.escape(said)
    image = f'<img alt="{said}" src="data:image/png;base64,{data}">'
    return f"<figure>{image}<figcaption>{said}</figcaption></figure>"


def show_record(shown: Any, record: DecisionRecord) -> None:
    """Show something that has a record: in a notebook as HTML, elsewhere the record's page."""
    if in_notebook():
        from IPython.display import display  # pyright: ignore[reportMissingImports]

        display(shown)
        return
    folder = Path(tempfile.mkdtemp(prefix="mmattn-"))  # stays: a browser reads it later
    page = save_record(folder / "decision.html", record).resolve()
    if not webbrowser.open(page.as_uri()):
        print(f"{shown}\nwhat argued for it: open {page} in a browser")


def _save_page(path: Path, record: DecisionRecord) -> None:
    from mmattn.maps.viewer.decision_page import save_decision_page

    try:
        save_decision_page(path, [record], budget_mb=PAGE_MB)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None


def _save_picture(path: Path, record: DecisionRecord) -> None:
    save_png(path, record_picture(record))


WRITERS: dict[str, Callable[[Path, DecisionRecord], None]] = {
    ".html": _save_page,
    ".npz": save_decision,
    ".png": _save_picture,
}
