"""CIDEr-D of many captions of the same images: what a reward asks for at every step."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mmattn.metrics.corpus import check_references
from mmattn.metrics.document_frequencies import DocumentFrequencies
from mmattn.metrics.ngram_numbers import Places
from mmattn.metrics.ngrams import Tokens, count_rows


class CiderScorer:
    """Scores captions against references that are counted once.

    The score is that of `mmattn.metrics.cider.cider_d`, whose equations it states, but for the
    document frequencies: they are of any corpus, for instance the training set's, so that a score
    does not depend on what else is in the batch.

    Args:
        references: for every image, the tokens of each of its references.
        frequencies: of n-grams; counted in the references if None.
        sigma: the width of the Gaussian penalty on the difference in length, in words.

    Raises:
        DataError: an image has no reference, or there is no image.
    """

    def __init__(
        self,
        references: Sequence[Sequence[Tokens]],
        frequencies: DocumentFrequencies | None = None,
        sigma: float = 6.0,
    ):
        check_references(references)
        self.frequencies, self.sigma = frequencies or DocumentFrequencies.of(references), sigma
        captions = [caption for image in references for caption in image]
        self.numbers = self.frequencies.numbers
        if frequencies is not None:
            self.numbers = self.numbers.extended(captions)
        self._sizes = np.array([len(image) for image in references])
        self._first = np.cumsum(self._sizes) - self._sizes
        self._lengths = np.array([len(caption) for caption in captions])
        image_of = np.repeat(np.arange(len(references)), self._sizes)
        self._rows = [
            _ReferenceRows.of(
                _weighted(self.frequencies, n, places, len(captions)), image_of, kinds
            )
            for n, (places, kinds) in enumerate(
                zip(self.numbers.places(captions), self.numbers.known, strict=True), 1
            )
        ]

    def __call__(
        self, images: Sequence[int] | np.ndarray, captions: Sequence[Tokens]
    ) -> np.ndarray:
        """The CIDEr-D of captions, between 0 and 10.

        Args:
            images: of which image each caption is, by its place among the references.
            captions: their tokens.
        """
        image = np.asarray(images, dtype=np.int64)
        pairs = _Pairs.of(self._sizes[image], self._first[image])
        similarity = np.zeros(len(pairs.caption))
        for n, (rows, places) in enumerate(
            zip(self._rows, self.numbers.places(captions), strict=True), 1
        ):
            own = _weighted(self.frequencies, n, places, len(captions))
            similarity += rows.similarities(own, image, pairs)
        length = np.array([len(caption) for caption in captions])
        gap = length[pairs.caption] - self._lengths[pairs.reference]
        penalised = similarity * np.exp(-(gap**2) / (2 * self.sigma**2))
        total = np.bincount(pairs.caption, penalised, minlength=len(captions))
        return 10 * total / (len(self._rows) * self._sizes[image])


class _Weighted(NamedTuple):
    """One row for each n-gram of each caption: its tf-idf weight; and the captions' norms."""

    caption: np.ndarray
    ngram: np.ndarray
    weight: np.ndarray
    norm: np.ndarray


def _weighted(frequencies: DocumentFrequencies, n: int, places: Places, captions: int) -> _Weighted:
    rows = count_rows(places.caption, places.ngram, int(places.ngram.max(initial=-1)) + 1)
    weight = rows.count * frequencies.weights(n, rows.ngram)
    norm = np.sqrt(np.bincount(rows.caption, weight**2, minlength=captions))
    return _Weighted(rows.caption, rows.ngram, weight, norm)


class _Pairs(NamedTuple):
    """Every caption with each reference of its image, and where the pairs of a caption begin."""

    caption: np.ndarray
    reference: np.ndarray
    start: np.ndarray

    @classmethod
    def of(cls, sizes: np.ndarray, first: np.ndarray) -> "_Pairs":
        """`sizes` and `first`: how many references a caption's image has, and the first one."""
        caption, within = _ranges(sizes)
        return cls(caption, first[caption] + within, np.cumsum(sizes) - sizes)


class _ReferenceRows(NamedTuple):
    """The references' n-grams of one length, ordered by image and n-gram.

    key: image · kinds + n-gram, equal ones where several references of an image have it.
    """

    key: np.ndarray
    reference: np.ndarray
    place: np.ndarray
    weight: np.ndarray
    norm: np.ndarray
    kinds: int

    @classmethod
    def of(cls, rows: _Weighted, image_of: np.ndarray, kinds: int) -> "_ReferenceRows":
        key = image_of[rows.caption] * max(kinds, 1) + rows.ngram
        order = np.argsort(key, kind="stable")
        reference = rows.caption[order]
        first = np.searchsorted(image_of, image_of)  # each reference's place in its image
        place = (np.arange(len(image_of)) - first)[reference]
        return cls(key[order], reference, place, rows.weight[order], rows.norm, kinds)

    def similarities(self, own: _Weighted, image: np.ndarray, pairs: _Pairs) -> np.ndarray:
        """The clipped cosine of each pair; `own` are the n-grams of captions of images [image]."""
        common = own.ngram < self.kinds
        caption, weight = own.caption[common], own.weight[common]
        key = image[caption] * max(self.kinds, 1) + own.ngram[common]
        low = np.searchsorted(self.key, key)
        row, within = _ranges(np.searchsorted(self.key, key, side="right") - low)
        match = low[row] + within
        shared = np.minimum(weight[row], self.weight[match]) * self.weight[match]
        pair = pairs.start[caption[row]] + self.place[match]
        dot = np.bincount(pair, shared, minlength=len(pairs.caption))
        scale = own.norm[pairs.caption] * self.norm[pairs.reference]
        return np.divide(dot, scale, out=np.zeros(len(dot)), where=scale > 0)


def _ranges(sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which range each entry belongs to, and its place there, for ranges of these sizes."""
    owner = np.repeat(np.arange(len(sizes)), sizes)
    return owner, np.arange(len(owner)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
