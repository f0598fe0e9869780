"""What a classifier says of one input: for every head its classes, and how probable they are."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from mmattn.data.labelled.example import Kind

LIKELY = 0.5  # from here on a class of independent ones is taken to be there

Text = str | tuple[str, ...]


class Ranked(NamedTuple):
    """A class and its probability."""

    label: str
    probability: float


class Word(NamedTuple):
    """A word of the text, the most probable class of it, and how probable that is."""

    word: str
    label: str
    probability: float


@dataclass(frozen=True)
class Answer:
    """What one head says of one input.

    Attributes:
        kind: of the head. Of "single" and "words" the probabilities of all classes add up to 1; of
            "multi" and "soft" every class has one of its own.
        top: the most probable classes, best first; of a head of words none.
        words: of a head of words, its words; else none.
    """

    kind: Kind
    top: tuple[Ranked, ...] = ()
    words: tuple[Word, ...] = ()

    @property
    def label(self) -> Text:
        """The most probable class; of a head of words that of each word."""
        if self.kind == "words":
            return tuple(word.label for word in self.words)
        return self.top[0].label

    @property
    def probability(self) -> float | tuple[float, ...]:
        """How probable `label` is; of a head of words one number a word."""
        if self.kind == "words":
            return tuple(word.probability for word in self.words)
        return self.top[0].probability

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes that are told.

        Of a "multi" head those of `top` with a probability of 0.5 or more; of others `label`.
        """
        if self.kind == "multi":
            return tuple(one.label for one in self.top if one.probability >= LIKELY)
        return self.label if isinstance(self.label, tuple) else (self.label,)

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as JSON holds it."""
        if self.kind == "words":
            words = [word._asdict() for word in self.words]
            return {"label": list(self.labels), "words": words}
        own: dict[str, Any] = {"label": self.label, "probability": self.probability}
        if self.kind == "multi":
            own["labels"] = list(self.labels)
        return {**own, "top": [one._asdict() for one in self.top]}


@dataclass(frozen=True, repr=False)
class Classification:
    """What a classifier says of one input.

    Attributes:
        images: the names of its pictures, their paths where they have one.
        text: its text, or the words of it where words have labels; None without one.
        answers: of each head.
    """

    images: tuple[str, ...]
    text: Text | None
    answers: Mapping[str, Answer]

    def __getitem__(self, head: str) -> Answer:
        """Return what a head says."""
        return self.answers[head]

    def __repr__(self) -> str:
        about = [repr(name) for name in self.images]
        about += [] if self.text is None else [f"text={self.text!r}"]
        said = [f"{head}={answer.label!r}" for head, answer in self.answers.items()]
        return f"Classification({', '.join([*about, *said])})"

    @property
    def label(self) -> Text:
        """The label of the first head; see `Answer`."""
        return self._first.label

    @property
    def probability(self) -> float | tuple[float, ...]:
        """How probable that is."""
        return self._first.probability

    @property
    def top(self) -> tuple[Ranked, ...]:
        """The most probable classes of the first head, best first."""
        return self._first.top

    def to_dict(self) -> dict[str, Any]:
        """Return the classification as JSON holds it.

        A single head's answer stands in the object itself; several stand in "heads" by their names.
        """
        if len(self.answers) == 1:
            said = self._first.to_dict()
        else:
            said = {"heads": {head: answer.to_dict() for head, answer in self.answers.items()}}
        return {**about(self.images, self.text), **said}

    @property
    def _first(self) -> Answer:
        return next(iter(self.answers.values()))


def about(images: tuple[str, ...], text: Text | None) -> dict[str, Any]:
    """Return what JSON says of an input: its image or images, and its text or the words of it."""
    found: dict[str, Any] = {}
    if images:
        found["image"] = images[0] if len(images) == 1 else list(images)
    if text is not None:
        found["text"] = text if isinstance(text, str) else list(text)
    return found
