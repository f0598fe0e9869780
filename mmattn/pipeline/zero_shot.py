"""Telling classes that are only named, of many pictures, batch after batch."""

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.joint import JointModel
from mmattn.pipeline.classification import Answer, Classification, Ranked
from mmattn.pipeline.embedder import ImageEmbedder
from mmattn.pipeline.pictures import Picture, Unreadable, grey_picture
from mmattn.pipeline.prefetch import Ready, computed
from mmattn.zero_shot import zero_shot_scores

HEAD = "label"  # the one head of what is told


@dataclass(frozen=True)
class ZeroShot:
    """Tells which of some names fits a picture; `JointPipeline.zero_shot` makes it.

    Attributes:
        model: in evaluation mode.
        embedder: of its pictures.
        names: of the C classes.
        weights: their embeddings, see `zero_shot_weights`.
        top: so many classes are told.
    """

    model: JointModel
    embedder: ImageEmbedder
    names: Sequence[str]
    weights: Float[Tensor, "C E"]
    top: int

    def results(
        self, pictures: Iterable[Picture], *, batch_size: int, threads: int
    ) -> Generator[Classification | Unreadable, None, None]:
        """Yield what is said of each picture, or what is wrong with it, in their order.

        Arguments as of `computed`.
        """
        sizes = {"batch_size": batch_size, "threads": threads}
        return computed(pictures, self.embedder.preparing(), self.told, **sizes)

    def trial(self, size: int) -> None:
        """Classify a batch of grey pictures."""
        grey = [grey_picture(self.embedder.preprocessing.size, i) for i in range(size)]
        list(self.results(grey, batch_size=size, threads=1))

    @torch.no_grad()
    def told(self, batch: Sequence[Ready]) -> list[Classification]:
        """Return what is said of a batch; of equally probable names the first comes first."""
        vectors = self.embedder.of_batch(batch).to(self.weights)
        scores = zero_shot_scores(self.model, vectors, self.weights)
        best = torch.sort(scores.float().cpu().softmax(-1), stable=True, descending=True)
        rows = zip(batch, best.indices.tolist(), best.values.tolist(), strict=True)
        return [self.classification(one.name, *row) for one, *row in rows]

    def classification(
        self, name: str, order: Sequence[int], probabilities: Sequence[float]
    ) -> Classification:
        """Return what is said of one picture."""
        ranked = zip(order, probabilities, strict=True)
        top = tuple(Ranked(self.names[i], p) for i, p in ranked)[: self.top]
        return Classification((name,), None, {HEAD: Answer("single", top)})
