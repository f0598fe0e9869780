"""Searching an index for what is similar to queries, and looking closer at the best."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.bundle import Bundle, ClassifierBundle
from mmattn.data.labelled.classes import Classes
from mmattn.errors import ConfigError, DataError
from mmattn.joint import MATCH, JointModel
from mmattn.pipeline.collected import collected
from mmattn.pipeline.embedder import text_tokens
from mmattn.pipeline.labeller import Labeller
from mmattn.pipeline.nearest import nearest
from mmattn.pipeline.pictures import Picture, picture_of_file, pictures
from mmattn.pipeline.questions import Question, plain_texts
from mmattn.pipeline.retrieval import Hit, Index, Retrieval
from mmattn.pipeline.verdict import Verdict

WORDS = ("no", "yes")  # the classes of the head that matches


@dataclass(frozen=True)
class Query:
    """What is looked for: a text, or a picture."""

    text: str | None = None
    picture: Picture | None = None


def queries_of(texts: Any, images: Any, max_pixels: int) -> list[Query]:
    """Return queries of one kind: images where there are any, else texts.

    Raises:
        ConfigError: for what is no text.
        DataError: for what is no image.
    """
    if images is None:
        return [Query(text=text) for text in plain_texts(texts)]
    return [Query(picture=picture) for picture in pictures(images, max_pixels=max_pixels)]


class Matcher:
    """Says how probable it is that images and texts belong together, by the fusion of a model.

    Args:
        bundle: of a joint model.

    Raises:
        ConfigError: for a model without a fusion.
    """

    def __init__(self, bundle: Bundle):
        model = bundle.model
        if not isinstance(model, JointModel) or model.matcher is None:
            raise ConfigError(
                "this model has no fusion, and so cannot tell whether an image and a text belong "
                "together: train one with model/fusion=cross, or compare embeddings alone"
            )
        self.tokenizer, self.longest = bundle.tokenizer, bundle.max_length
        pairs = ClassifierBundle(
            model=model.matcher,
            tokenizer=bundle.tokenizer,
            preprocessing=bundle.preprocessing,
            max_length=bundle.max_length,
            classes={MATCH: Classes("single", WORDS)},
        )
        self.labeller = Labeller(pairs, Verdict(pairs.classes, len(WORDS)))

    def question(
        self, picture: Picture, text: str, place: int, where: str, *, truncate: bool
    ) -> Question:
        """Return a pair as the model is asked about it. Raises DataError as `text_tokens`."""
        ids = text_tokens(text, self.tokenizer, self.longest, where, truncate=truncate)
        return Question(picture.name, place, (picture,), text, ids, [])

    def probabilities(
        self,
        questions: Sequence[Question],
        *,
        batch_size: int,
        threads: int,
        progress: bool | None = None,
    ) -> Float[Tensor, "N"]:
        """Return how probable it is of each pair that it belongs together.

        Raises:
            DataError: for the first picture that cannot be read.
        """
        results = self.labeller.results(questions, batch_size=batch_size, threads=threads)
        few, total = batch_size, len(questions)
        told = collected(results, total, progress=progress, few=few, doing="matching")
        return torch.tensor([dict(one[MATCH].top)[WORDS[1]] for one in told])


@dataclass(frozen=True)
class Retriever:
    """Finds what is similar to queries; `JointPipeline.retriever` makes it of what fits the model.

    Attributes:
        index: that is searched.
        top: how many are found for each query.
        rerank: so many of the most similar are sorted by whether they belong to the query, as the
            fusion sees it; 0 for none.
        matcher: the fusion; None where `rerank` is 0.
        batch_size, threads: of the pairs that it looks at.
        truncate: cut texts that are too long for it.
        max_pixels: of an image file that it looks at again.
    """

    index: Index
    top: int
    rerank: int
    matcher: Matcher | None
    batch_size: int
    threads: int
    truncate: bool
    max_pixels: int

    def retrieve(self, queries: Sequence[Query], vectors: Float[Tensor, "Q E"]) -> list[Retrieval]:
        """Return what is found for each query.

        Args:
            queries: what is looked for.
            vectors: their embeddings.

        Raises:
            ConfigError: for an index of vectors of another width.
            DataError: for an index that holds what is no number, and for an image of it that is to
                be looked at again and cannot be.
        """
        width, own = self.index.vectors.shape[1], vectors.shape[1]
        if width != own:
            raise ConfigError(
                f"the index has vectors of {width} numbers, and this model makes {own}: another "
                "model made it"
            )
        similar, places = nearest(vectors, self.index.vectors, max(self.top, self.rerank))
        if not bool(similar.isfinite().all()):
            raise DataError("the index holds what is no number: remove it, and it is made again")
        rows = zip(queries, similar.tolist(), places.tolist(), strict=True)
        return [self.retrieval(*row) for row in rows]

    def retrieval(self, query: Query, similar: Sequence[float], places: Sequence[int]) -> Retrieval:
        """Return what is found for one query, given what is most similar to it."""
        names = self.index.names
        hits = [Hit(names[i], i, value) for i, value in zip(places, similar, strict=True)]
        if self.matcher is not None:
            hits = [*self.sorted_by_match(query, hits[: self.rerank]), *hits[self.rerank :]]
        image = None if query.picture is None else query.picture.name
        return Retrieval(self.index.kind, tuple(hits[: self.top]), query.text, image)

    def sorted_by_match(self, query: Query, hits: Sequence[Hit]) -> list[Hit]:
        """Return hits with how probable it is that they belong to the query, best first."""
        matcher = self.matcher
        assert matcher is not None
        pairs = [
            (self.picture(hit), query.text) if query.picture is None else (query.picture, hit.name)
            for hit in hits
        ]
        asked = [
            matcher.question(picture, str(text), place, repr(text), truncate=self.truncate)
            for place, (picture, text) in enumerate(pairs)
        ]
        sizes = {"batch_size": self.batch_size, "threads": self.threads}
        found = matcher.probabilities(asked, progress=False, **sizes).tolist()
        matched = [hit._replace(match=value) for hit, value in zip(hits, found, strict=True)]
        return sorted(matched, key=lambda hit: -(hit.match or 0.0))

    def picture(self, hit: Hit) -> Picture:
        """Return an image of the index, to look at it again."""
        if self.index.pictures is not None:
            return self.index.pictures[hit.place]
        return picture_of_file(Path(hit.name), hit.place, self.max_pixels)
