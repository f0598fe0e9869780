"""What argued for one class of one input: patches of its images, and words of its text."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmattn.maps.decision_record import DecisionRecord
from mmattn.pipeline.record_files import as_figure, record_picture, save_record, show_record

Part = tuple[str, float]


@dataclass(frozen=True, repr=False)
class ClassMap:
    """How much each patch and each word argued for a class.

    Attributes:
        record: of this class alone.
    """

    record: DecisionRecord

    def __repr__(self) -> str:
        one = self.record.classes[0]
        word = "" if one.word is None else f", word={one.word!r}"
        return f"ClassMap({one.label!r}, probability={one.probability:.3f}{word})"

    @property
    def label(self) -> str:
        """The class."""
        return self.record.classes[0].label

    @property
    def probability(self) -> float:
        """What the model gives it."""
        return self.record.classes[0].probability

    @property
    def word(self) -> str | None:
        """Of a head that labels words, the word that has this label; else None."""
        return self.record.classes[0].word

    @property
    def image(self) -> np.ndarray:
        """The relevance of each patch of each of the M images, float32 [M, h, w], 0 or more."""
        return self.record.image_relevance[0]

    @property
    def tokens(self) -> tuple[Part, ...]:
        """What each token says and its relevance; the first is begin, the last is end."""
        worth = self.record.text_relevance[0].tolist()
        return tuple(zip(self.record.tokens, worth, strict=True))

    @property
    def words(self) -> tuple[Part, ...]:
        """Each word and its relevance, that of its tokens together."""
        worth = self.record.word_relevance[0].tolist()
        return tuple(zip((word.text for word in self.record.words), worth, strict=True))

    def picture(self) -> np.ndarray:
        """Return the images and the text under their relevance, uint8 [H, W, 3]."""
        return record_picture(self.record)

    def save(self, path: str | Path) -> Path:
        """Write a page (.html), the picture (.png) or the numbers (.npz), by the suffix.

        Raises:
            ConfigError: for another suffix.
        """
        return save_record(Path(path), self.record)

    def show(self) -> None:
        """Show it: in a notebook as its cell's output, elsewhere as a page in a browser."""
        show_record(self, self.record)

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        return as_figure(self.picture(), repr(self))


def class_maps(record: DecisionRecord, head: str) -> tuple[ClassMap, ...]:
    """Return the maps of a head's classes, in their order."""
    return tuple(ClassMap(record.only([place])) for place in record.heads.get(head, []))
