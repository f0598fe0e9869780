"""How many images' captions contain an n-gram: what makes one word tell more than another."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmattn.errors import DataError
from mmattn.metrics.ngram_numbers import NgramNumbers
from mmattn.metrics.ngrams import Tokens


@dataclass(frozen=True)
class DocumentFrequencies:
    """The inverse document frequencies of a corpus of images with captions.

    Attributes:
        numbers: of the n-grams that the corpus has.
        known: for every n, log(images / images whose captions contain it) of each n-gram.
        unknown: log(images): an n-gram that the corpus does not have counts as in one image.
    """

    numbers: NgramNumbers
    known: tuple[np.ndarray, ...]
    unknown: float

    @classmethod
    def of(cls, references: Sequence[Sequence[Tokens]], order: int = 4) -> "DocumentFrequencies":
        """Count in how many images' captions every n-gram is.

        Raises:
            DataError: there is no image.
        """
        if not references:
            raise DataError("document frequencies need captions: there is no image")
        captions = [caption for image in references for caption in image]
        image_of = np.repeat(np.arange(len(references)), [len(image) for image in references])
        numbers = NgramNumbers(order).extended(captions)
        unknown, known = float(np.log(len(references))), []
        for (caption, ngram), kinds in zip(numbers.places(captions), numbers.known, strict=True):
            once = np.unique(image_of[caption] * max(kinds, 1) + ngram)
            containing = np.bincount(once % max(kinds, 1), minlength=kinds)
            known.append(unknown - np.log(containing))
        return cls(numbers, tuple(known), unknown)

    def weights(self, n: int, ngram: np.ndarray) -> np.ndarray:
        """The inverse document frequency of n-grams, by their numbers."""
        known = self.known[n - 1]
        if not len(known):
            return np.full(len(ngram), self.unknown)
        return np.where(ngram < len(known), known[ngram.clip(max=len(known) - 1)], self.unknown)
