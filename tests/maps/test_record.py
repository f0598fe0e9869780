"""A record's parts fit each other, or it is refused with the numbers that do not."""

from dataclasses import replace

import numpy as np
import pytest

from mmattn.maps.geometry import Placement
from mmattn.maps.record import AttentionRecord, Layers, MethodMaps
from mmattn.maps.words import group_words

SPANS = ((0, 1), (1, 4), (4, 7), (7, 11))


def weights(*shape: int) -> np.ndarray:
    return np.full(shape, 1 / shape[-1], dtype=np.float32)


def full_record() -> AttentionRecord:
    """2 layers, 3 heads, 4 tokens, a 3 x 5 grid, 2 prefix tokens."""
    caption = "a snowy owl"
    return AttentionRecord(
        key="birds/owl.jpg",
        caption=caption,
        offsets=SPANS,
        words=tuple(group_words(caption, SPANS)),
        cross=Layers(("text.0.cross", "text.1.cross"), weights(2, 3, 4, 17)),
        grid=(3, 5),
        prefix=2,
        image=np.zeros((30, 50, 3), dtype=np.uint8),
        placement=Placement.resize((30, 50)),
        text_self=Layers(("text.0.self",), weights(1, 3, 4, 4)),
        vision_self=Layers(("vision.7.self",), weights(1, 2, 17, 17)),
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cross": Layers(("text.0.cross",), weights(2, 3, 4, 17))}, "1 names"),
        ({"cross": Layers(("a", "b"), weights(2, 3, 5, 17))}, "4 queries"),
        ({"grid": (3, 4)}, "14 keys"),
        ({"prefix": -1}, "-1 prefix"),
        ({"text_self": Layers(("a",), weights(1, 3, 4, 5))}, "text_self"),
        ({"methods": (MethodMaps("m", np.zeros((4, 5, 3))),)}, r"\(4, 3, 5\)"),
        ({"offsets": ((0, 1), (1, 4), (4, 7), (6, 40))}, r"\(6, 40\)"),
        ({"words": tuple(group_words("a b", [(0, 1), (0, 0), (0, 0), (0, 0), (2, 3)]))}, "'b'"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_with_numbers(change, said):
    with pytest.raises(ValueError, match=said):
        replace(full_record(), **change)


def test_tokens_are_their_characters_of_the_caption():
    assert full_record().tokens == ("a", " sn", "owy", " owl")
