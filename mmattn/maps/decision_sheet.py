"""A whole record of decisions as one picture, or as one line: each head's classes together."""

import numpy as np
from PIL import Image

from mmattn.maps.decision_picture import Argument, decision_caption, decision_picture
from mmattn.maps.decision_record import DecisionRecord
from mmattn.maps.look import LOOK
from mmattn.maps.page import tiled


def decision_sheet(record: DecisionRecord) -> np.ndarray:
    """Draw what argued for each class, one head below the other: uint8 RGB [H, W, 3]."""
    pictures = [Image.fromarray(_head(record, head)) for head in record.heads]
    return np.asarray(tiled(pictures, 1, LOOK.paper, gap=0))


def decision_line(record: DecisionRecord) -> str:
    """Say what was predicted and, where it is known, what is right, in one line."""
    truth = _further_truth(record)
    return " | ".join(decision_caption(_arguments(record, head), truth) for head in record.heads)


def _head(record: DecisionRecord, head: str) -> np.ndarray:
    """Draw the classes of one head, or the labels of all words."""
    title = record.key if len(record.heads) == 1 else f"{record.key} · {head}"
    no_image = "image" in record.missing
    return decision_picture(
        [None] if no_image else [one.image for one in record.images],
        _words(record),
        _arguments(record, head),
        title=title,
        truth=_further_truth(record),
        placements=[None] if no_image else [one.placement for one in record.images],
    )


def _words(record: DecisionRecord) -> list[str] | None:
    """Return the words; none where the text is missing, None for a model that reads none."""
    if record.text is None and "text" not in record.missing:
        return None
    return [word.text for word in record.words]


def _arguments(record: DecisionRecord, head: str) -> list[Argument]:
    return [_argument(record, place) for place in record.heads[head]]


def _argument(record: DecisionRecord, place: int) -> Argument:
    one = record.classes[place]
    of_word = one.word is not None
    return Argument(
        name=f"{one.word}: {one.label}" if of_word else one.label,
        probability=one.probability,
        maps=record.image_relevance[place] if record.images else None,
        words=None if record.text is None else record.word_relevance[place],
        role=f"word {(one.place or 0) + 1}" if of_word else one.role,
    )


def _further_truth(record: DecisionRecord) -> str | None:
    """Return the label, unless the right class stands there anyway."""
    named = any(one.role == "right" and one.label == record.truth for one in record.classes)
    return None if named else record.truth
