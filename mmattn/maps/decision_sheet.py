"""A whole record of decisions as one picture: each head's classes beside each other."""

import numpy as np
from PIL import Image

from mmattn.maps.decision_picture import Argument, decision_picture
from mmattn.maps.decision_record import DecisionRecord
from mmattn.maps.geometry import Placement
from mmattn.maps.look import LOOK
from mmattn.maps.page import tiled


def decision_sheet(record: DecisionRecord) -> np.ndarray:
    """Draw what argued for each class, one head below the other: uint8 RGB [H, W, 3]."""
    pictures = [Image.fromarray(_head(record, head)) for head in record.heads]
    return np.asarray(tiled(pictures, 1, LOOK.paper, gap=0))


def _head(record: DecisionRecord, head: str) -> np.ndarray:
    """Draw the classes of one head, or the labels of all words."""
    places = record.heads[head]
    title = record.key if len(record.heads) == 1 else f"{record.key} · {head}"
    return decision_picture(
        [one.image for one in record.images],
        None if record.text is None else [word.text for word in record.words],
        [_argument(record, place, rank) for rank, place in enumerate(places)],
        title=title,
        placements=_placements(record),
    )


def _argument(record: DecisionRecord, place: int, rank: int) -> Argument:
    one = record.classes[place]
    of_word = one.word is not None
    return Argument(
        name=f"{one.word}: {one.label}" if of_word else one.label,
        probability=one.probability,
        maps=record.image_relevance[place] if record.images else None,
        words=None if record.text is None else record.word_relevance[place],
        role=f"word {(one.place or 0) + 1}" if of_word else "predicted" if not rank else "next",
    )


def _placements(record: DecisionRecord) -> list[Placement] | None:
    """Return what the network saw of each image; None where it saw all of every one."""
    placements = [one.placement for one in record.images]
    whole = all(one == Placement.resize(one.size) for one in placements)
    return None if whole else placements
