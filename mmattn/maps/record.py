"""The attention of a captioner while it wrote one caption, as viewers show and files hold it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmattn.maps.geometry import Placement, Size
from mmattn.maps.png import checked_picture
from mmattn.maps.words import Span, Word


@dataclass(frozen=True)
class Layers:
    """Attention weights [L, H, queries, keys] and the names of the L calls they are from."""

    names: tuple[str, ...]
    weights: np.ndarray


@dataclass(frozen=True)
class MethodMaps:
    """What another method than raw attention says: maps [T, h, w]; `signed` ones go below 0."""

    title: str
    maps: np.ndarray
    signed: bool = False


@dataclass(frozen=True)
class AttentionRecord:
    """What a captioner attended to while it wrote one caption, with all that is shown beside it.

    `cross.weights` is [L, H, T, P + S]; row t is the query that wrote token t. `offsets` are the
    characters of the T tokens in `caption`, and `words` group them. `image` is uint8 RGB, the
    original or a smaller copy; `placement` says which part of the original the network saw.
    `text_self` is [L, H, T, T]: key 0 is the begin token and key j token j - 1. `vision_self` is
    [L, H, P + S, P + S]. Raises `ValueError` where sizes do not fit.
    """

    key: str
    caption: str
    offsets: tuple[Span, ...]
    words: tuple[Word, ...]
    cross: Layers
    grid: Size
    prefix: int
    image: np.ndarray
    placement: Placement
    references: tuple[str, ...] = ()
    step: int | None = None
    text_self: Layers | None = None
    vision_self: Layers | None = None
    methods: tuple[MethodMaps, ...] = ()

    def __post_init__(self):
        checked_picture(self.image)
        T, keys = len(self.offsets), self.prefix + self.grid[0] * self.grid[1]
        if self.prefix < 0 or min(self.grid) < 1:
            raise ValueError(f"no image has {self.prefix} prefix tokens and patches {self.grid}")
        _check_layers("cross", self.cross, (T, keys))
        _check_layers("text_self", self.text_self, (T, T))
        _check_layers("vision_self", self.vision_self, (keys, keys))
        for method in self.methods:
            if method.maps.shape != (T, *self.grid):
                raise ValueError(
                    f"the maps of {method.title!r} are {method.maps.shape}, but {T} tokens and "
                    f"patches {self.grid} need {(T, *self.grid)}"
                )
        check_words(self.words, self.offsets, self.caption)

    @property
    def tokens(self) -> tuple[str, ...]:
        """The characters of each token."""
        return tuple(self.caption[start:end] for start, end in self.offsets)


def _check_layers(field: str, layers: Layers | None, ends: tuple[int, int]) -> None:
    if layers is None:
        return
    shape = layers.weights.shape
    if len(shape) != 4 or (shape[0], *shape[2:]) != (len(layers.names), *ends) or 0 in shape[:2]:
        raise ValueError(
            f"{field} has weights {shape}, but {len(layers.names)} names, {ends[0]} queries and "
            f"{ends[1]} keys need [{len(layers.names)}, heads, {ends[0]}, {ends[1]}]"
        )


def check_words(words: Sequence[Word], offsets: Sequence[Span], caption: str) -> None:
    """Raise ValueError for characters or tokens that a caption, or any other text, lacks."""
    spans = [*offsets, *((word.start, word.end) for word in words)]
    wrong = [(start, end) for start, end in spans if not 0 <= start <= end <= len(caption)]
    if wrong:
        raise ValueError(f"characters {wrong[0]} of a caption that has {len(caption)}")
    for word in words:
        if not word.tokens or not 0 <= min(word.tokens) <= max(word.tokens) < len(offsets):
            raise ValueError(
                f"the word {word.text!r} has the tokens {word.tokens} of {len(offsets)}"
            )
