"""One caption's attention on disk: an NPZ file that holds all a viewer needs, and exact numbers.

`numpy.load(path)` reads it without pickle. Its arrays, in format 1:

    format       int      the number of this layout
    weights      [L, H, T, P + S] cross-attention, float16 or float32; row t wrote token t
    grid         [2]      patches (rows, columns); S is their product
    prefix       int      P
    offsets      [T, 2]   characters (start, end) of each token in the caption
    image        [height, width, 3] uint8, at most `IMAGE_SIDE` pixels long
    size         [2]      (height, width) of the original image
    box          [4]      (top, left, bottom, right) of the network's picture, in original pixels
    about        JSON     key, step, caption, references, words, names of the calls, methods
    text_self    [L, H, T, T], where it was recorded: position 0 is the begin token
    vision_self  [L, H, P + S, P + S], where it was recorded
    method_0 …   [T, h, w] float32, the maps of further methods
"""

import json
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image

from mmattn.files import write_whole
from mmattn.maps.geometry import Placement
from mmattn.maps.npz import packed, read_record
from mmattn.maps.record import AttentionRecord, Layers, MethodMaps
from mmattn.maps.words import Word

FORMAT = 1
# The longer side of a stored image, in pixels: enough to look at, and half a megabyte at most.
IMAGE_SIDE = 512

Precision = Literal["float16", "float32"]


def save_attention(
    path: str | Path, record: AttentionRecord, precision: Precision = "float32"
) -> None:
    """Write a record as NPZ, whole or not at all; makes the folder if needed.

    `precision` is that of the weights: float16 keeps three digits in half the room. Maps of methods
    are always float32, as gradients can be too small for less. An image with a side over
    `IMAGE_SIDE` is stored smaller.
    """
    if precision not in get_args(Precision):
        raise ValueError(f"precision is one of {', '.join(get_args(Precision))}, not {precision!r}")
    write_whole(path, packed(_arrays(record, np.dtype(precision))))


def load_attention(path: str | Path) -> AttentionRecord:
    """Read what `save_attention` wrote.

    Raises `DataError`, in one line with the file's name, for a file that is missing, cut off, of
    another kind or of another format.
    """
    return read_record(path, "attention", FORMAT, _version, _record)


def bounded(image: np.ndarray, side: int) -> np.ndarray:
    """Return the image, made smaller where a side is longer than `side` pixels."""
    height, width = image.shape[:2]
    factor = side / max(height, width)
    if factor >= 1:
        return image
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def _arrays(record: AttentionRecord, dtype: np.dtype) -> dict[str, np.ndarray]:
    """The arrays of a file, as the head of this module lists them."""
    placed = record.placement
    arrays = {
        "format": np.array(FORMAT),
        "weights": record.cross.weights.astype(dtype),
        "grid": np.array(record.grid),
        "prefix": np.array(record.prefix),
        "offsets": np.array(record.offsets, np.int64).reshape(-1, 2),
        "image": bounded(record.image, IMAGE_SIDE),
        "size": np.array(placed.size),
        "box": np.array(placed.box, np.float64),
        "about": np.array(json.dumps(_about(record))),
    }
    for field in ("text_self", "vision_self"):
        layers: Layers | None = getattr(record, field)
        if layers is not None:
            arrays[field] = layers.weights.astype(dtype)
    for i, method in enumerate(record.methods):
        arrays[f"method_{i}"] = method.maps.astype(np.float32)
    return arrays


def _about(record: AttentionRecord) -> dict[str, Any]:
    """All that is text."""
    parts = {
        "cross": record.cross,
        "text_self": record.text_self,
        "vision_self": record.vision_self,
    }
    return {
        "key": record.key,
        "step": record.step,
        "caption": record.caption,
        "references": record.references,
        "words": [
            {"text": w.text, "start": w.start, "end": w.end, "tokens": w.tokens}
            for w in record.words
        ],
        "calls": {field: layers.names for field, layers in parts.items() if layers},
        "methods": [{"title": m.title, "signed": m.signed} for m in record.methods],
    }


def _version(arrays: np.lib.npyio.NpzFile) -> int:
    if "format" not in arrays and "weights" not in arrays:
        raise ValueError("it holds no attention weights")
    return int(arrays["format"]) if "format" in arrays else 0


def _record(arrays: np.lib.npyio.NpzFile) -> AttentionRecord:
    """Read the arrays. What is wrong in them raises something."""
    about = json.loads(str(arrays["about"]))
    rows, columns = (int(n) for n in arrays["grid"])
    height, width = (int(n) for n in arrays["size"])
    top, left, bottom, right = (float(edge) for edge in arrays["box"])
    names = {field: tuple(map(str, names)) for field, names in about["calls"].items()}
    selves = {field: Layers(names[field], _floats(arrays, field)) for field in {*names} - {"cross"}}
    return AttentionRecord(
        key=str(about["key"]),
        caption=str(about["caption"]),
        offsets=tuple((int(start), int(end)) for start, end in arrays["offsets"]),
        words=tuple(
            Word(str(w["text"]), int(w["start"]), int(w["end"]), tuple(map(int, w["tokens"])))
            for w in about["words"]
        ),
        cross=Layers(names["cross"], _floats(arrays, "weights")),
        grid=(rows, columns),
        prefix=int(arrays["prefix"]),
        image=arrays["image"],
        placement=Placement((height, width), (top, left, bottom, right)),
        references=tuple(map(str, about["references"])),
        step=None if about["step"] is None else int(about["step"]),
        text_self=selves.get("text_self"),
        vision_self=selves.get("vision_self"),
        methods=tuple(
            MethodMaps(str(m["title"]), _floats(arrays, f"method_{i}"), bool(m["signed"]))
            for i, m in enumerate(about["methods"])
        ),
    )


def _floats(arrays: np.lib.npyio.NpzFile, name: str) -> np.ndarray:
    """One of the arrays of weights; ValueError for anything but floats."""
    array = arrays[name]
    if array.dtype.name not in get_args(Precision):
        raise ValueError(f"{name} is {array.dtype}, not one of {', '.join(get_args(Precision))}")
    return array
