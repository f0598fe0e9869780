"""Telling the classes of many inputs, batch after batch."""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.batch import LabelBatch
from mmattn.bundle import ClassifierBundle
from mmattn.maps.single_examples import single_examples
from mmattn.pipeline import preparation
from mmattn.pipeline.classification import Classification
from mmattn.pipeline.explanation import records
from mmattn.pipeline.finite import check_finite
from mmattn.pipeline.label_batch import Prepared, label_batch
from mmattn.pipeline.monte_carlo import AT_ONCE, MonteCarlo
from mmattn.pipeline.pictures import Picture, Unreadable, grey_picture
from mmattn.pipeline.prefetch import Ready, ahead_of, computed
from mmattn.pipeline.preparation import Preparation
from mmattn.pipeline.questions import Question
from mmattn.pipeline.verdict import INDEPENDENT, Opinion, Verdict


@dataclass(frozen=True)
class Labeller:
    """Tells the classes of inputs; `ClassifierPipeline.labeller` makes it of what fits the model.

    Attributes:
        bundle: the classifier with all that it needs.
        verdict: which heads are told, and how.
        dropout: passes with dropout on, whose mean is told; None for one without.
        attention: tell what argued for the classes, too.
    """

    bundle: ClassifierBundle
    verdict: Verdict
    dropout: MonteCarlo | None = None
    attention: bool = False

    @property
    def heads(self) -> tuple[str, ...]:
        """Those that are told."""
        return tuple(self.verdict.classes)

    def results(
        self, questions: Iterable[Question], *, batch_size: int, threads: int
    ) -> Generator[Classification | Unreadable, None, None]:
        """Yield what is said of each input, or what is wrong with its pictures, in their order.

        Args:
            questions: the inputs.
            batch_size: inputs computed at once.
            threads: how many read pictures while the model is busy.
        """
        return self._each(questions, self.told, batch_size=batch_size, threads=threads)

    def opinions(
        self, questions: Iterable[Question], *, batch_size: int, threads: int
    ) -> Generator[Opinion | Unreadable, None, None]:
        """Yield what is thought of each input, for an ensemble; arguments as of `results`."""
        return self._each(questions, self.thought, batch_size=batch_size, threads=threads)

    def vectors(
        self, questions: Iterable[Question], *, batch_size: int, threads: int
    ) -> Generator[Float[Tensor, "D"] | Unreadable, None, None]:
        """Yield the vector of each input that all heads read; arguments as of `results`."""
        return self._each(questions, self.fused, batch_size=batch_size, threads=threads)

    def trial(self, size: int) -> None:
        """Classify a batch of inputs with the longest text, and as many grey pictures as may be."""
        sees, texts, most = (
            self.bundle.preprocessing,
            self.bundle.tokenizer,
            self.bundle.model.images,
        )
        ids = [0] if texts is None else [texts.begin_id] * self.bundle.max_length
        asked = []
        for i in range(size):
            shown = () if sees is None else [(sees.size, most * i + j) for j in range(most)]
            grey = [grey_picture(*one) for one in shown]
            asked.append(Question("grey", i, tuple(grey), None if texts is None else "", ids, []))
        list(self.results(asked, batch_size=size, threads=1))

    def preparing(self, kept: int):
        """Return what prepares a question; of the latest pictures so many are `kept` prepared.

        One picture with many texts is then read and encoded once a batch, not once a text.
        """
        preprocessing = self.bundle.preprocessing
        read = None if preprocessing is None else Preparation(preprocessing, keep=self.attention)

        @lru_cache(maxsize=kept)
        def prepared(picture: Picture) -> preparation.Prepared:
            assert read is not None
            return read(picture)

        def prepare(question: Question) -> Prepared:
            found = [prepared(one) for one in question.pictures]
            originals = [one.original for one in found if one.original is not None]
            return Prepared(question, tuple(one.pixels for one in found), tuple(originals))

        return prepare

    def told(self, batch: Sequence[Ready]) -> list[Classification]:
        """Return what is said of the inputs of a batch."""
        return self.classifications([one.prepared for one in batch])

    def classifications(self, asked: Sequence[Prepared]) -> list[Classification]:
        """Return what is said of the inputs of a batch.

        Raises:
            ConfigError: where the model computes something that is no number.
        """
        batch = self.batch(asked)
        said = [self.verdict.classification(one) for one in self.think(asked, batch)]
        if not self.attention:
            return said
        argued = records(self.bundle, batch, asked, said)
        return [
            one if record is None else one.with_maps(record)
            for one, record in zip(said, argued, strict=True)
        ]

    def thought(self, batch: Sequence[Ready]) -> list[Opinion]:
        """Return what is thought of the inputs of a batch."""
        asked = [one.prepared for one in batch]
        return self.think(asked, self.batch(asked))

    @torch.no_grad()
    def think(self, asked: Sequence[Prepared], batch: LabelBatch) -> list[Opinion]:
        """Return what the model thinks of the inputs of a batch, in one pass or in several."""
        found = self.shares(self.bundle.model(batch)) if self.dropout is None else None
        opinions = []
        for row, one in enumerate(asked):
            own = self.drawn(one) if found is None else {h: p[row][None] for h, p in found.items()}
            opinions.append(Opinion(one.question, own))
        return opinions

    def drawn(self, one: Prepared) -> dict[str, Float[Tensor, "S ..."]]:
        """Return how probable each class is in each pass over one input with dropout on."""
        assert self.dropout is not None
        copies = min(self.dropout.passes, AT_ONCE)
        ((_, batch),) = single_examples(self.batch([one] * copies), copies)
        return self.shares(self.dropout.scores(self.bundle.model, batch, one.question.place))

    @torch.no_grad()
    def fused(self, batch: Sequence[Ready]) -> Float[Tensor, "B D"]:
        """Return the vectors of a batch's inputs that all heads read, on the CPU.

        Raises:
            ConfigError: as `classifications`.
        """
        model = self.bundle.model
        found = model.fuse(self.batch([one.prepared for one in batch])).summary
        check_finite(model, found)
        return found.float().cpu()

    def batch(self, asked: Sequence[Prepared]) -> LabelBatch:
        """Return some inputs as the model gets them, on its device and in its type."""
        model, tokenizer = self.bundle.model, self.bundle.tokenizer
        pad_id = 0 if tokenizer is None else tokenizer.pad_id
        like = next(model.parameters())
        batch = label_batch(asked, pad_id, words=bool(model.word_heads)).to(like.device)
        if batch.images is not None:
            batch.images = batch.images.to(like.dtype)
        return batch

    def shares(self, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return how probable each class of each head is, on the CPU.

        Raises:
            ConfigError: where a score is no number.
        """
        for head in self.heads:
            check_finite(self.bundle.model, scores[head])
        return {head: self.probabilities(head, scores[head]) for head in self.heads}

    def probabilities(self, head: str, scores: Float[Tensor, "*B C"]) -> Float[Tensor, "*B C"]:
        """Return how probable each class of a head is, on the CPU."""
        scores = scores.float().cpu() / self.bundle.temperature.get(head, 1.0)
        kind = self.bundle.classes[head].kind
        return scores.sigmoid() if kind in INDEPENDENT else scores.softmax(-1)

    def _each(
        self,
        questions: Iterable[Question],
        compute: Callable[[Sequence[Ready]], Iterable[Any]],
        **sizes: int,
    ) -> Generator[Any, None, None]:
        """Yield what is computed of each input, see `computed`."""
        return computed(questions, self.preparing(ahead_of(**sizes)), compute, **sizes)
