"""Telling the classes of many inputs, batch after batch."""

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache

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
from mmattn.pipeline.prefetch import Prefetched, Ready, batched, ready
from mmattn.pipeline.preparation import Preparation
from mmattn.pipeline.questions import Question
from mmattn.pipeline.verdict import Opinion, Verdict


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
        with closing(self.batches(questions, batch_size=batch_size, threads=threads)) as stream:
            for batch in stream:
                yield from self.tell(batch)

    def opinions(
        self, questions: Iterable[Question], *, batch_size: int, threads: int
    ) -> Generator[Opinion | Unreadable, None, None]:
        """Yield what is thought of each input, for an ensemble; arguments as of `results`."""
        with closing(self.batches(questions, batch_size=batch_size, threads=threads)) as stream:
            for batch in stream:
                asked = [one.prepared for one in batch if isinstance(one, Ready)]
                found = iter(self.think(asked, self.batch(asked)) if asked else [])
                yield from (next(found) if isinstance(one, Ready) else one for one in batch)

    def batches(
        self, questions: Iterable[Question], *, batch_size: int, threads: int
    ) -> Generator[list[Prefetched], None, None]:
        """Yield inputs with their pictures read and prepared, some at a time."""
        ahead = 2 * batch_size + threads
        prepare = self.preparing(ahead)
        with closing(ready(questions, prepare, threads=threads, ahead=ahead)) as stream:
            yield from batched(stream, batch_size)

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

    def tell(self, batch: Sequence[Prefetched]) -> list[Classification | Unreadable]:
        """Return what becomes of a batch's inputs, in their order."""
        asked = [one.prepared for one in batch if isinstance(one, Ready)]
        told = iter(self.classifications(asked) if asked else [])
        return [next(told) if isinstance(one, Ready) else one for one in batch]

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
        return scores.sigmoid() if kind in ("multi", "soft") else scores.softmax(-1)
