"""A set of glyph pictures with their names, and the pixels of the accents that a name mentions."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from mmattn.data.glyphs.holdout import Pair
from mmattn.data.glyphs.names import caption
from mmattn.data.glyphs.regions import accent_finder
from mmattn.data.glyphs.render import FontPictures


class GlyphSet:
    """Pictures of (character, font) pairs; the caption is the Unicode name in lower case."""

    def __init__(self, pairs: Sequence[Pair], pictures: Mapping[str, FontPictures]):
        self._pairs = tuple(pairs)
        self._pictures = pictures

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self._pairs)

    def character(self, index: int) -> str:
        """Return the character that the picture shows."""
        return self._pairs[index][0]

    def font(self, index: int) -> str:
        """Return the font, by file stem, that draws the picture."""
        return self._pairs[index][1]

    def key(self, index: int) -> str:
        """Return font and code point, such as "DejaVuSans/U+00E9"."""
        return f"{self.font(index)}/U+{ord(self.character(index)):04X}"

    def captions(self, index: int) -> tuple[str, ...]:
        """Return the one caption."""
        return (caption(self.character(index)),)

    def image(self, index: int) -> Tensor:
        """Return the picture, black ink on white, as uint8 [3, size, size]."""
        pictures = self._pictures[self.font(index)]
        grey = pictures.images[pictures.rows[self.character(index)]]
        return torch.from_numpy(grey).repeat(3, 1, 1)

    def regions(self, index: int) -> dict[str, np.ndarray]:
        """Return accent word -> bool mask [size, size] of the accent's pixels (`decompose`).

        Empty for characters without accents and where the accents cannot be told apart cleanly.
        """
        size = self._pictures[self.font(index)].images.shape[-1]
        return accent_finder(self.font(index), size).regions(self.character(index))
