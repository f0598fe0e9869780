"""From what a model, several models or several passes think of an input to what is told of it."""

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.data.labelled.classes import Classes
from mmattn.errors import ConfigError
from mmattn.metrics.uncertainty import uncertainty
from mmattn.pipeline.classification import Answer, Classification, Ranked, Unsure, Word
from mmattn.pipeline.pictures import Unreadable
from mmattn.pipeline.questions import Question

INDEPENDENT = ("multi", "soft")  # kinds of heads of which every class has a probability of its own


@runtime_checkable
class Teller(Protocol):
    """What tells the classes of inputs: one model, or several."""

    def results(
        self, questions: Iterable[Question], *, batch_size: int, threads: int
    ) -> Generator[Classification | Unreadable, None, None]:
        """Yield what is said of each input, or what is wrong with its pictures, in their order."""
        ...

    def trial(self, size: int) -> None:
        """Classify a batch of different grey pictures with the longest text."""
        ...


class Opinion(NamedTuple):
    """What is thought of one input.

    question: the input. probabilities: head -> of each class in each of S passes or models,
    [S, C] or, of a head that labels words, [S, W, C]; on the CPU.
    """

    question: Question
    probabilities: Mapping[str, Float[Tensor, "S ..."]]


@dataclass(frozen=True)
class Verdict:
    """How opinions become answers.

    Attributes:
        classes: of the heads that are told.
        top: so many classes of each.
        several: whether opinions are of several passes or models, so that how unsure they are can
            be told.
        at_least: answers that are less probable are withheld.

    Raises:
        ConfigError: for `at_least` outside 0 to 1.
    """

    classes: Mapping[str, Classes]
    top: int
    several: bool = False
    at_least: float = 0.0

    def __post_init__(self):
        if not 0 <= self.at_least <= 1:
            raise ConfigError(f"at_least={self.at_least}: a probability is from 0 to 1")

    def classification(self, opinion: Opinion) -> Classification:
        """Return what is told of an input."""
        answers = {
            head: self.answer(classes, opinion.probabilities[head], opinion.question)
            for head, classes in self.classes.items()
        }
        names = tuple(picture.name for picture in opinion.question.pictures)
        return Classification(names, opinion.question.text, answers)

    def answer(
        self, classes: Classes, probabilities: Float[Tensor, "S *W C"], question: Question
    ) -> Answer:
        """Return what one head says of one input; of equal classes the first comes first."""
        ordered = torch.sort(mean(probabilities), stable=True, dim=-1, descending=True)
        unsure = self.unsure(classes, probabilities)
        if classes.kind == "words":
            # Behind the place where a text was cut no word has a start; padding is no word.
            words = (question.text or ())[: len(question.starts)]
            best, sure = ordered.indices[:, 0].tolist(), ordered.values[:, 0].tolist()
            names = [classes.names[i] for i in best]
            said = [
                Word(word, self.told(names[i], sure[i]), sure[i], names[i], *unsure[i : i + 1])
                for i, word in enumerate(words)
            ]
            return Answer(classes.kind, words=tuple(said), at_least=self.at_least)
        best = zip(ordered.indices.tolist(), ordered.values.tolist(), strict=True)
        top = [Ranked(classes.names[i], p) for i, p in best][: self.top]
        return Answer(
            classes.kind,
            top=tuple(top),
            at_least=self.at_least,
            unsure=unsure[0] if unsure else None,
        )

    def told(self, label: str, probability: float) -> str | None:
        """Return a label, None where it is not probable enough."""
        return label if probability >= self.at_least else None

    def unsure(self, classes: Classes, probabilities: Float[Tensor, "S *W C"]) -> list[Unsure]:
        """Return how unsure a head is of an input, or of each word; empty where it is not known.

        Of independent classes it is that of all of them together: the sum.
        """
        if not self.several:
            return []
        if classes.kind in INDEPENDENT:
            probabilities = torch.stack([probabilities, 1 - probabilities], -1)
        found = uncertainty(probabilities)
        parts = (found.predictive_entropy, found.expected_entropy, found.mutual_information)
        if classes.kind in INDEPENDENT:
            parts = tuple(part.sum(-1) for part in parts)
        rows = torch.stack([part.reshape(-1) for part in parts], -1)
        return [Unsure(*row) for row in rows.tolist()]


def mean(probabilities: Float[Tensor, "S *W C"]) -> Float[Tensor, "*W C"]:
    """Return the mean over passes; a single one as it is."""
    return probabilities[0] if len(probabilities) == 1 else probabilities.mean(0)
