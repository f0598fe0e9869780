"""The relevance of one decision on disk: an NPZ file of plain arrays that holds all that is shown.

`numpy.load(path)` reads it without pickle. Its arrays, in format 1, of C classes, M images, T
tokens and W words:

    decision_format  int          the number of this layout
    image_relevance  [C, M, h, w] float32, of each patch
    text_relevance   [C, T]       float32, of each token; the first is begin, the last is end
    word_relevance   [C, W]       float32, of each word: the sum over its tokens
    labels           [C]          the classes, `heads` [C] that they are of, and `roles` [C]:
                                  predicted, right or next
    probability      [C]          float64, of each class
    tokens, words    [T], [W]     what they say
    offsets          [T, 2]       characters (start, end) of each token in the text
    images           [M]          their names
    image_0 …        [height, width, 3] uint8, at most `IMAGE_SIDE` pixels long
    sizes            [M, 2]       (height, width) of the original images
    boxes            [M, 4]       (top, left, bottom, right) of what the network saw of each
    about            JSON         key, text, words with their tokens, labelled words, missing,
                                  truth, wrong, set, why, step
"""

import json
from pathlib import Path
from typing import Any, get_args

import numpy as np

from mmattn.files import write_whole
from mmattn.maps.archive import IMAGE_SIDE, bounded
from mmattn.maps.decision_record import DecisionRecord, ExplainedClass, Role, SeenImage
from mmattn.maps.geometry import Placement
from mmattn.maps.npz import opened, packed, read_record
from mmattn.maps.words import Word

FORMAT = 1
KEY = "decision_format"
PLAIN = ("key", "text", "missing", "truth", "wrong", "set", "why", "step")  # kept as it is


def save_decision(path: str | Path, record: DecisionRecord) -> None:
    """Write a record as NPZ, whole or not at all; makes the folder if needed.

    An image with a side over `IMAGE_SIDE` is stored smaller.
    """
    write_whole(path, packed(_arrays(record)))


def load_decision(path: str | Path) -> DecisionRecord:
    """Read what `save_decision` wrote.

    Raises `DataError`, in one line with the file's name, for a file that is missing, cut off, of
    another kind or of another format.
    """
    return read_record(path, "decision", FORMAT, _version, _record)


def is_decision(path: str | Path) -> bool:
    """Return whether a file is one of a decision; damaged files and those of captions are not."""
    try:
        with Path(path).open("rb") as stream, opened(stream) as arrays:
            return KEY in arrays
    except Exception:  # whoever reads it next says what is wrong with it
        return False


def _arrays(record: DecisionRecord) -> dict[str, np.ndarray]:
    """The arrays of a file, as the head of this module lists them."""
    classes, images = record.classes, record.images
    arrays = {
        KEY: np.array(FORMAT),
        "image_relevance": record.image_relevance.astype(np.float32),
        "text_relevance": record.text_relevance.astype(np.float32),
        "word_relevance": record.word_relevance.astype(np.float32),
        "labels": np.array([one.label for one in classes], np.str_),
        "heads": np.array([one.head for one in classes], np.str_),
        "roles": np.array([one.role for one in classes], np.str_),
        "probability": np.array([one.probability for one in classes], np.float64),
        "tokens": np.array(record.tokens, np.str_),
        "words": np.array([word.text for word in record.words], np.str_),
        "offsets": np.array(record.offsets, np.int64).reshape(-1, 2),
        "images": np.array([one.name for one in images], np.str_),
        "sizes": np.array([one.placement.size for one in images], np.int64).reshape(-1, 2),
        "boxes": np.array([one.placement.box for one in images], np.float64).reshape(-1, 4),
        "about": np.array(json.dumps(_about(record))),
    }
    for i, one in enumerate(images):
        arrays[f"image_{i}"] = bounded(one.image, IMAGE_SIDE)
    return arrays


def _about(record: DecisionRecord) -> dict[str, Any]:
    """All that is text; strings in arrays would lose zeros at their ends."""
    return {name: getattr(record, name) for name in PLAIN} | {
        "words": [
            {"text": w.text, "start": w.start, "end": w.end, "tokens": w.tokens}
            for w in record.words
        ],
        "classes": [
            {
                "head": one.head,
                "label": one.label,
                "word": one.word,
                "place": one.place,
                "role": one.role,
            }
            for one in record.classes
        ],
        "images": [one.name for one in record.images],
    }


def _version(arrays: np.lib.npyio.NpzFile) -> int:
    if KEY not in arrays:
        raise ValueError("it holds no relevance of a decision")
    return int(arrays[KEY])


def _record(arrays: np.lib.npyio.NpzFile) -> DecisionRecord:
    """Read the arrays. What is wrong in them raises something."""
    about = json.loads(str(arrays["about"]))
    return DecisionRecord(
        key=str(about["key"]),
        images=tuple(
            SeenImage(str(name), arrays[f"image_{i}"], _placement(arrays, i))
            for i, name in enumerate(about["images"])
        ),
        text=None if about["text"] is None else str(about["text"]),
        offsets=tuple((int(start), int(end)) for start, end in arrays["offsets"]),
        words=tuple(
            Word(str(w["text"]), int(w["start"]), int(w["end"]), tuple(map(int, w["tokens"])))
            for w in about["words"]
        ),
        classes=tuple(
            _class(each, probability)
            for each, probability in zip(about["classes"], arrays["probability"], strict=True)
        ),
        image_relevance=_floats(arrays, "image_relevance"),
        text_relevance=_floats(arrays, "text_relevance"),
        missing=tuple(map(str, about["missing"])),
        truth=None if about["truth"] is None else str(about["truth"]),
        wrong=bool(about["wrong"]),
        set=str(about["set"]),
        why=str(about["why"]),
        step=None if about["step"] is None else int(about["step"]),
    )


def _class(each: dict[str, Any], probability: float) -> ExplainedClass:
    if each["role"] not in get_args(Role):
        raise ValueError(f"a class is {each['role']!r}, not one of {', '.join(get_args(Role))}")
    return ExplainedClass(
        str(each["head"]),
        str(each["label"]),
        float(probability),
        None if each["word"] is None else str(each["word"]),
        None if each["place"] is None else int(each["place"]),
        each["role"],
    )


def _placement(arrays: np.lib.npyio.NpzFile, i: int) -> Placement:
    height, width = (int(n) for n in arrays["sizes"][i])
    top, left, bottom, right = (float(edge) for edge in arrays["boxes"][i])
    return Placement((height, width), (top, left, bottom, right))


def _floats(arrays: np.lib.npyio.NpzFile, name: str) -> np.ndarray:
    """One of the arrays of relevance; ValueError for anything but float32."""
    array = arrays[name]
    if array.dtype != np.float32:
        raise ValueError(f"{name} is {array.dtype}, not float32")
    return array
