"""What a page shows of one caption, as JSON and bytes."""

import base64
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from mmattn.maps.archive import IMAGE_SIDE, AttentionRecord, Layers, bounded
from mmattn.maps.viewer.tables import Tables
from mmattn.maps.words import Word, left_out, merge


class Detail(NamedTuple):
    """How much of a record a page holds: pixels of the image's longer side, and which maps."""

    side: int = IMAGE_SIDE
    heads: bool = True
    selves: bool = True


# From all to the least, for pages that must stay small.
DETAILS = (
    Detail(),
    Detail(side=384),
    Detail(side=384, selves=False),
    Detail(side=256, selves=False),
    Detail(side=256, heads=False, selves=False),
    Detail(side=128, heads=False, selves=False),
)


class Payload(NamedTuple):
    """JSON, the packed tables it points into, and the image as a data address."""

    about: dict[str, Any]
    tables: str
    image: str


def payload(record: AttentionRecord, detail: Detail) -> Payload:
    """Return what a page needs to show a record."""
    tables = Tables()
    about = {
        "key": record.key,
        "step": record.step,
        "caption": record.caption,
        "references": record.references,
        "words": [word.text for word in record.words],
        "between": between(record.caption, record.words),
        "leftOut": [record.tokens[t] for t in left_out(record.words, len(record.offsets))],
        "size": record.placement.size,
        "box": record.placement.box,
        "grid": record.grid,
        "prefix": record.prefix,
        "kinds": [_cross(record, detail, tables), *_methods(record, tables)],
        "text": _text_self(record, detail, tables),
        "notes": _notes(record, detail),
    }
    if detail.selves and record.vision_self:
        about["kinds"].append(_vision_self(record.vision_self, record.prefix, tables))
    about["rows"] = tables.rows
    return Payload(about, tables.packed(), data_address(bounded(record.image, detail.side)))


def between(caption: str, words: Sequence[Word]) -> list[str]:
    """Return the W + 1 pieces of a caption before, between and after its W words."""
    edges = [0, *(edge for word in words for edge in (word.start, word.end)), len(caption)]
    return [caption[start:end] for start, end in zip(edges[::2], edges[1::2], strict=True)]


def data_address(image: np.ndarray) -> str:
    """Return a picture [H, W, 3] uint8 as a data: address, PNG or JPEG, whichever is shorter.

    Small pictures, such as glyphs, are always PNG: their pixels are seen one by one.
    """
    picture = Image.fromarray(image)
    kinds = ["png"] if max(image.shape[:2]) <= 96 else ["jpeg", "png"]
    files = {kind: io.BytesIO() for kind in kinds}
    for kind, file in files.items():
        picture.save(file, kind, quality=85, optimize=True)
    kind = min(files, key=lambda kind: files[kind].tell())
    return f"data:image/{kind};base64,{base64.b64encode(files[kind].getvalue()).decode()}"


def planes(weights: np.ndarray, heads: bool) -> np.ndarray:
    """Return [L * (H + 1) + 1, R, C] of weights [L, H, R, C]: heads and their mean, of each layer.

    The last plane is the mean over all layers. Without `heads` the means alone: [L + 1, R, C].
    """
    weights = weights.astype(np.float32)  # a mean of float16 would be one
    means = weights.mean(axis=1, keepdims=True)
    layers = np.concatenate([weights, means], axis=1) if heads else means
    stacked = layers.reshape(layers.shape[0] * layers.shape[1], *layers.shape[2:])
    return np.concatenate([stacked, means.mean(axis=0)])


def _cross(record: AttentionRecord, detail: Detail, tables: Tables) -> dict[str, Any]:
    """The weights themselves: a row for each plane and word, a column for each patch."""
    patches = record.cross.weights[..., record.prefix :]
    by_word = merge(np.moveaxis(patches, 2, 0), record.words)  # [W, L, H, S]
    weights = np.moveaxis(by_word, 0, 2)
    words = len(record.words)
    return _kind("cross-attention", record.cross, weights, detail.heads, tables, words)


def _methods(record: AttentionRecord, tables: Tables) -> list[dict[str, Any]]:
    """Maps of other methods: a row for each word."""
    words, patches = len(record.words), record.grid[0] * record.grid[1]
    return [
        {
            "title": method.title,
            "layers": [],
            "heads": 0,
            "query": "word",
            "table": tables.add(
                merge(method.maps, record.words).reshape(words, patches), method.signed, words
            )._asdict(),
        }
        for method in record.methods
    ]


def _vision_self(layers: Layers, prefix: int, tables: Tables) -> dict[str, Any]:
    """What each patch attends to, mean over heads: a row for each plane and patch."""
    weights = layers.weights[:, :, prefix:, prefix:]
    kind = _kind("image self-attention of a patch", layers, weights, False, tables)
    return {**kind, "query": "patch"}


def _text_self(record: AttentionRecord, detail: Detail, tables: Tables) -> dict[str, Any] | None:
    """What each token's query attends to among the tokens before it: rows and columns are tokens.

    Query t wrote token t; key 0 is the begin token, and key j is token j - 1.
    """
    layers = record.text_self
    if layers is None or not detail.selves or not record.offsets:
        return None
    kind = _kind("text self-attention", layers, layers.weights, detail.heads, tables)
    return {**kind, "tokens": [token.strip() for token in record.tokens]}


def _kind(
    title: str, layers: Layers, weights: np.ndarray, heads: bool, tables: Tables, words: int = 0
) -> dict[str, Any]:
    rows = planes(weights, heads)
    table = rows.reshape(rows.shape[0] * rows.shape[1], rows.shape[2])
    return {
        "title": title,
        "layers": list(layers.names),
        "heads": weights.shape[1] if heads else 0,
        "query": "word",
        "table": tables.add(table, words=words)._asdict(),
    }


def _notes(record: AttentionRecord, detail: Detail) -> list[str]:
    """What this page does not hold though the record does."""
    notes = []
    shown = bounded(record.image, detail.side).shape
    if shown[:2] != record.placement.size:
        (height, width), size = shown[:2], record.placement.size
        notes.append(
            f"The image is shown at {width} × {height} of its {size[1]} × {size[0]} pixels."
        )
    if not detail.heads:
        notes.append("To keep the page small, maps are means over heads.")
    if not detail.selves and (record.text_self or record.vision_self):
        notes.append("To keep the page small, self-attention is left out.")
    elif record.vision_self:
        notes.append("Image self-attention is the mean over heads.")
    return notes
