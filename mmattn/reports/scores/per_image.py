"""The scores of single images, a row each."""

import math
from collections.abc import Iterator
from typing import Any

from mmattn.reports.scores.result import Result, System

# What is no score of one image.
OF_ALL = ("CHAIR_i",)


def image_rows(result: Result) -> Iterator[dict[str, Any]]:
    """Yield what is known of each image, as JSON holds it, in the order of the references.

    "image", "caption", "references", "scores" and, where they were looked for, the "objects" that
    the caption names and those of them that are "made_up"; with a second model, its share of that
    in "against".
    """
    own, *others = (_rows(system) for system in result.systems)
    second = others[0] if others else None
    for pair, row in zip(result.systems[0].corpus.pairs, own, strict=True):
        told = {"image": pair.reference.key, "references": list(pair.reference.captions), **row}
        yield told if second is None else {**told, "against": next(second)}


def _rows(system: System) -> Iterator[dict[str, Any]]:
    scores = {
        name: each.per_image.tolist()
        for name, each in system.measured.scores.items()
        if name not in OF_ALL
    }
    chair = system.measured.chair
    for i, pair in enumerate(system.corpus.pairs):
        values = {name: values[i] for name, values in scores.items()}
        row: dict[str, Any] = {
            "caption": pair.prediction.captions[0],
            "scores": {k: None if math.isnan(v) else v for k, v in values.items()},
        }
        if len(pair.prediction.captions) > 1:
            row["others"] = list(pair.prediction.captions[1:])
        if chair is not None:
            row |= {"objects": chair.mentioned[i], "made_up": chair.made_up[i]}
        yield row
