"""The pictures of a set of glyphs by their names, for examples that ask about them."""

import numpy as np
from torch import Tensor

from mmattn.data.glyphs.glyph_set import GlyphSet


class GlyphStore:
    """An `ImageStore` of one or more sets; it also knows the pixels of the marks."""

    def __init__(self, *sets: GlyphSet):
        self._places = {each.key(i): (each, i) for each in sets for i in range(len(each))}

    def image(self, name: str) -> Tensor:
        """Return a picture, uint8 [3, size, size]."""
        dataset, index = self._places[name]
        return dataset.image(index)

    def character(self, name: str) -> str:
        """Return the character that a picture shows."""
        dataset, index = self._places[name]
        return dataset.character(index)

    def regions(self, name: str) -> dict[str, np.ndarray]:
        """Return accent word -> bool mask [size, size]; empty where they cannot be told apart."""
        dataset, index = self._places[name]
        return dataset.regions(index)
