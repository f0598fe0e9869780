"""Captions chosen by what people said of the pictures that are most similar, among known ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mmattn.bundle import Bundle
from mmattn.data.caption_files.entry import Entry
from mmattn.data.caption_files.matching import listed
from mmattn.data.caption_files.photos import check_owners, photo_named
from mmattn.data.caption_files.references import read_references
from mmattn.data.caption_files.selection import of_training
from mmattn.errors import ConfigError, DataError
from mmattn.metrics.cider_scorer import CiderScorer
from mmattn.metrics.document_frequencies import DocumentFrequencies
from mmattn.metrics.ngrams import Tokens
from mmattn.metrics.ptb import tokenize
from mmattn.pipeline.collected import check_sizes, collected
from mmattn.pipeline.embedder import FeatureEmbedder
from mmattn.pipeline.index_file import fingerprint
from mmattn.pipeline.index_update import IndexUpdate
from mmattn.pipeline.nearest import nearest
from mmattn.pipeline.pictures import pictures
from mmattn.pipeline.ranking import Transform

SAME = 1 - 1e-4  # a known picture that is so similar is the very same: it would judge itself
TEMPERATURE = 0.1  # of the softmax of cosines by which neighbours count


class FeatureSpace:
    """Vectors of which every number counts alike: standardised over known ones, then of length 1.

    Args:
        vectors: of known pictures. A number that is the same in all of them counts for nothing.
    """

    def __init__(self, vectors: Float[Tensor, "N E"]):
        self.mean = vectors.mean(0)
        deviation = vectors.std(0, correction=0)
        least = 1e-6 * vectors.abs().amax(0)  # what rounding leaves of numbers that are the same
        self.scale = torch.where(deviation > least, 1 / deviation, 0.0)

    def __call__(self, vectors: Float[Tensor, "M E"]) -> Float[Tensor, "M E"]:
        """Return vectors as they are compared."""
        return F.normalize((vectors - self.mean) * self.scale, dim=-1)


class NeighbourRanker:
    """Ranks captions by their CIDEr-D with what people said of the most similar pictures.

    The consensus of nearest neighbours (Devlin et al. 2015, "Exploring nearest neighbor approaches
    for image captioning"), by which captions of a model are chosen here: to what they say is added
    what the model itself says, the score by which it ranks them (a log-probability a token). The
    more similar a picture, the more it counts. A known picture that is the very one that is
    captioned has no say. `Pipeline.neighbours` makes one.

    Args:
        embedder: what compares pictures.
        vectors: of N known pictures, as it makes them.
        captions: of each of them, one or more.
        top: so many of the known pictures are asked.

    Raises:
        ConfigError: for a `top` below 1.
        DataError: for a picture without a caption, and where there is no picture.
    """

    def __init__(
        self,
        embedder: FeatureEmbedder,
        vectors: Float[Tensor, "N E"],
        captions: Sequence[Sequence[str]],
        top: int = 20,
    ):
        check_top(top)
        self.embedder, self.top = embedder, top
        self.space = FeatureSpace(vectors)
        self.vectors = self.space(vectors)
        self.words = [[tokenize(text) for text in image] for image in captions]
        self.frequencies = DocumentFrequencies.of(self.words)
        self.transform: Transform = embedder.preprocessing.transform()

    def __repr__(self) -> str:
        return f"NeighbourRanker({self.top} of {len(self.words):,} known pictures)"

    def __call__(
        self, texts: Sequence[Sequence[str]], seen: Sequence[Tensor], own: Float[Tensor, "B N"]
    ) -> Float[Tensor, "B N"]:
        """Return the scores: `own`, and the CIDEr-D (0 to 10) with what neighbours say."""
        rows = [
            self.scores([tokenize(text) for text in captions], *found)
            for captions, found in zip(texts, self.neighbours(seen), strict=True)
        ]
        return own + torch.from_numpy(np.stack(rows).astype(np.float32))

    def neighbours(
        self, seen: Sequence[Float[Tensor, "3 height width"]]
    ) -> list[tuple[list[int], np.ndarray]]:
        """Return which known pictures are most similar to each, best first, and how they count."""
        vectors = self.space(self.embedder.vectors(seen))
        found = zip(*nearest(vectors, self.vectors, self.top + 1), strict=True)
        others = [(places[near < SAME], near[near < SAME]) for near, places in found]
        return [
            (places[: self.top].tolist(), (near[: self.top] / TEMPERATURE).softmax(0).numpy())
            for places, near in others
        ]

    def scores(
        self, captions: Sequence[Tokens], places: Sequence[int], weights: np.ndarray
    ) -> np.ndarray:
        """Return the mean over known pictures of the CIDEr-D of captions with what was said."""
        if not places:
            return np.zeros(len(captions))
        scorer = CiderScorer([self.words[place] for place in places], self.frequencies)
        each = scorer(np.repeat(np.arange(len(places)), len(captions)), [*captions] * len(places))
        return weights @ each.reshape(len(places), len(captions))


def check_top(top: int) -> None:
    """Raise ConfigError where nobody is asked."""
    if top < 1:
        raise ConfigError(f"top={top}: ask 1 neighbour or more")


@dataclass(frozen=True, kw_only=True)
class KnownPictures:
    """Which pictures are known, and how they are embedded; `ranker` asks them.

    Attributes:
        captions: a file of captions that names pictures; see `read_references`.
        images: the folder of these pictures.
        split: of the file, or a file that lists pictures; None for all but what the file says is of
            validation or test.
        top: so many of the most similar ones are asked.
        index: a file that keeps their vectors, made if it does not exist; None keeps nothing.
        batch_size, threads, progress, max_pixels: as of `Pipeline.caption`.
    """

    captions: Path
    images: Path
    split: str | None = None
    top: int = 20
    index: Path | None = None
    batch_size: int = 8
    threads: int = 2
    progress: bool | None = None
    max_pixels: int

    def ranker(self, bundle: Bundle) -> NeighbourRanker:
        """Return what ranks the captions of a model by these pictures.

        Raises:
            ConfigError: for numbers out of their range, a split that does not exist, and an index
                that another model made.
            DataError: for a file that cannot be read or names no picture, and for pictures that are
                missing or cannot be read.
        """
        check_top(self.top)
        check_sizes(self.batch_size, self.threads)
        entries = self.entries()
        paths = self.paths(entries)
        embedder = FeatureEmbedder(bundle.model, bundle.preprocessing)
        vectors = self.vectors(paths, embedder, bundle)
        return NeighbourRanker(embedder, vectors, [entry.captions for entry in entries], self.top)

    def entries(self) -> list[Entry]:
        """Return the pictures with their captions."""
        return of_training(read_references(self.captions), self.split, self.captions)

    def paths(self, entries: Sequence[Entry]) -> list[Path]:
        """Return the files of the pictures.

        Raises DataError for those that are not there, and for one that may be of two images.
        """
        names = [[entry.name] if entry.name else [] for entry in entries]
        found = [photo_named(each, self.images) for each in names]
        lost = [entry for entry, path in zip(entries, found, strict=True) if path is None]
        if lost:
            raise DataError(
                f"{self.captions} has captions of pictures that are not in {self.images}: "
                f"{listed(lost)}: check the folder, or name those that are there by a split"
            )
        there = [path for path in found if path is not None]
        check_owners(there, entries)
        return there

    def vectors(
        self, paths: Sequence[Path], embedder: FeatureEmbedder, bundle: Bundle
    ) -> Float[Tensor, "N E"]:
        """Return the vectors of the pictures, from the index as far as that has them."""
        few = {"batch_size": self.batch_size, "threads": self.threads}
        if self.index is None:
            found = list(pictures(list(paths), max_pixels=self.max_pixels))
            results = embedder.results(found, **few)
            shown = {"progress": self.progress, "few": self.batch_size, "doing": "known pictures"}
            return torch.stack(collected(results, len(found), **shown))
        made_by = f"features of {fingerprint(bundle)}"
        limits = {"max_pixels": self.max_pixels, "progress": self.progress}
        updated = IndexUpdate(self.index, made_by, embedder, **few, **limits)(paths)
        if updated.unreadable:
            raise updated.unreadable[0].error
        place = {name: row for row, name in enumerate(updated.names)}
        return updated.stored.vectors[[place[str(path)] for path in paths]]
