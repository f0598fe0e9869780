"""A decision about one input, of random relevance, to be changed where a test wants another."""

import re
from dataclasses import replace

import numpy as np
import pytest

from mmattn.maps.decision_record import DecisionRecord, ExplainedClass, SeenImage
from mmattn.maps.geometry import Placement
from mmattn.maps.words import group_words

CLASSES = (
    ExplainedClass("answer", "yes", 0.7),
    ExplainedClass("answer", "no", 0.2, role="next"),
    ExplainedClass("traits", "old", 0.6),
)


@pytest.fixture(scope="session")
def make_decision():
    """Make a record: one token a word, begin and end around them, images of smooth colours."""

    def make(
        text="is it a dog?", images=1, grid=(5, 8), size=(50, 80), classes=CLASSES, **changes
    ) -> DecisionRecord:
        rng = np.random.default_rng(0)
        rows, columns = np.indices(size) / np.array(size)[:, None, None]
        pixels = np.rint(255 * np.stack([rows, columns, 1 - rows], -1)).astype(np.uint8)
        seen = [SeenImage(f"{m}.png", pixels, Placement.resize(size)) for m in range(images)]
        spans = tuple(match.span() for match in re.finditer(r"\S+", text or ""))
        offsets = () if text is None else ((0, 0), *spans, (0, 0))
        shape = (len(classes), images, *(grid if images else (0, 0)))
        one = DecisionRecord(
            key="dog.png",
            images=tuple(seen),
            text=text,
            offsets=offsets,
            words=tuple(group_words(text or "", offsets)),
            classes=tuple(classes),
            image_relevance=rng.random(shape, np.float32) ** 3,
            text_relevance=rng.random((len(classes), len(offsets)), np.float32),
        )
        return replace(one, **changes)

    return make
