"""Telling the classes of many inputs, batch after batch."""

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.bundle import ClassifierBundle
from mmattn.data.labelled.classes import Classes
from mmattn.pipeline.classification import Answer, Classification, Ranked, Word
from mmattn.pipeline.finite import check_finite
from mmattn.pipeline.label_batch import Prepared, label_batch
from mmattn.pipeline.pictures import Picture, Unreadable, grey_picture
from mmattn.pipeline.prefetch import Prefetched, Ready, batched, ready
from mmattn.pipeline.preparation import Preparation
from mmattn.pipeline.questions import Question


@dataclass(frozen=True)
class Labeller:
    """Tells the classes of inputs; `ClassifierPipeline.labeller` makes it of what fits the model.

    Attributes:
        bundle: the classifier with all that it needs.
        heads: those that are told.
        top: so many classes of each.
    """

    bundle: ClassifierBundle
    heads: Sequence[str]
    top: int

    def results(
        self, questions: Iterable[Question], *, batch_size: int, threads: int
    ) -> Generator[Classification | Unreadable, None, None]:
        """Yield what is said of each input, or what is wrong with its pictures, in their order.

        Args:
            questions: the inputs.
            batch_size: inputs computed at once.
            threads: how many read pictures while the model is busy.
        """
        ahead = 2 * batch_size + threads
        prepare = self.preparing(ahead)
        with closing(ready(questions, prepare, threads=threads, ahead=ahead)) as stream:
            for batch in batched(stream, batch_size):
                yield from self.tell(batch)

    def trial(self, size: int) -> None:
        """Classify a batch of different grey pictures with the longest text."""
        sees, texts = self.bundle.preprocessing, self.bundle.tokenizer
        ids = [0] if texts is None else [texts.begin_id] * self.bundle.max_length
        asked = []
        for i in range(size):
            grey = () if sees is None else (grey_picture(sees.size, i),)
            asked.append(Question("grey", i, grey, None if texts is None else "", ids, []))
        list(self.results(asked, batch_size=size, threads=1))

    def preparing(self, kept: int):
        """Return what prepares a question; of the latest pictures so many are `kept` prepared.

        One picture with many texts is then read and encoded once a batch, not once a text.
        """
        preprocessing = self.bundle.preprocessing
        preparation = None if preprocessing is None else Preparation(preprocessing, keep=False)

        @lru_cache(maxsize=kept)
        def pixels(picture: Picture) -> Tensor:
            assert preparation is not None
            return preparation(picture).pixels

        def prepare(question: Question) -> Prepared:
            return Prepared(question, tuple(pixels(one) for one in question.pictures))

        return prepare

    def tell(self, batch: Sequence[Prefetched]) -> list[Classification | Unreadable]:
        """Return what becomes of a batch's inputs, in their order."""
        asked = [one.prepared for one in batch if isinstance(one, Ready)]
        told = iter(self.classifications(asked) if asked else [])
        return [next(told) if isinstance(one, Ready) else one for one in batch]

    @torch.no_grad()
    def classifications(self, asked: Sequence[Prepared]) -> list[Classification]:
        """Return what is said of the inputs of a batch.

        Raises:
            ConfigError: where the model computes something that is no number.
        """
        model, tokenizer = self.bundle.model, self.bundle.tokenizer
        pad_id = 0 if tokenizer is None else tokenizer.pad_id
        batch = label_batch(asked, pad_id, words=bool(model.word_heads))
        like = next(model.parameters())
        batch = batch.to(like.device)
        if batch.images is not None:
            batch.images = batch.images.to(like.dtype)
        scores = model(batch)
        for head in self.heads:
            check_finite(model, scores[head])
        found = {head: self.probabilities(head, scores[head]) for head in self.heads}
        return [self.classification(row, one.question, found) for row, one in enumerate(asked)]

    def probabilities(self, head: str, scores: Float[Tensor, "*B C"]) -> Float[Tensor, "*B C"]:
        """Return how probable each class of a head is, on the CPU."""
        scores = scores.float().cpu() / self.bundle.temperature.get(head, 1.0)
        kind = self.bundle.classes[head].kind
        return scores.sigmoid() if kind in ("multi", "soft") else scores.softmax(-1)

    def classification(
        self, row: int, question: Question, found: Mapping[str, Tensor]
    ) -> Classification:
        """Return what is said of one input of a batch."""
        answers = {
            head: self.answer(self.bundle.classes[head], probabilities[row], question)
            for head, probabilities in found.items()
        }
        names = tuple(picture.name for picture in question.pictures)
        return Classification(names, question.text, answers)

    def answer(
        self, classes: Classes, probabilities: Float[Tensor, "*W C"], question: Question
    ) -> Answer:
        """Return what one head says of one input; of equal classes the first comes first."""
        ordered = torch.sort(probabilities, stable=True, dim=-1, descending=True)
        if classes.kind == "words":
            # Behind the place where a text was cut no word has a start; padding is no word.
            words = (question.text or ())[: len(question.starts)]
            best, sure = ordered.indices[:, 0].tolist(), ordered.values[:, 0].tolist()
            said = [Word(w, classes.names[best[i]], sure[i]) for i, w in enumerate(words)]
            return Answer(classes.kind, words=tuple(said))
        best = zip(ordered.indices.tolist(), ordered.values.tolist(), strict=True)
        top = [Ranked(classes.names[i], p) for i, p in best][: self.top]
        return Answer(classes.kind, top=tuple(top))
