"""What a classifier says of one input: for every head its classes, and how probable they are."""

import html
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmattn.data.labelled.example import Kind
from mmattn.errors import ConfigError
from mmattn.files import write_whole
from mmattn.maps.decision_record import DecisionRecord
from mmattn.pipeline.class_map import ClassMap, class_maps
from mmattn.pipeline.json_line import json_line
from mmattn.pipeline.record_files import (
    as_figure,
    check_suffix,
    record_picture,
    save_record,
    show_record,
)

LIKELY = 0.5  # from here on a class of independent ones is taken to be there

Text = str | tuple[str, ...]
Told = str | tuple[str | None, ...] | None


class Ranked(NamedTuple):
    """A class and its probability."""

    label: str
    probability: float


class Unsure(NamedTuple):
    """How unsure several passes or models are together, in nats.

    total: the entropy of their mean. aleatoric: the mean of their entropies, what each of them is
    unsure of and more data would not change. epistemic: the rest, what they disagree on (mutual
    information). Of a head of independent classes the sum over its classes.
    """

    total: float
    aleatoric: float
    epistemic: float


class Word(NamedTuple):
    """A word of the text, the most probable class of it, and how probable that is.

    The label is None where it is not probable enough, and `best` is that class all the same;
    `unsure` is None where there was a single pass.
    """

    word: str
    label: str | None
    probability: float
    best: str
    unsure: Unsure | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the word as JSON holds it."""
        own: dict[str, Any] = {"word": self.word, "label": self.label}
        own["probability"] = self.probability
        return own if self.unsure is None else {**own, "uncertainty": self.unsure._asdict()}


@dataclass(frozen=True)
class Answer:
    """What one head says of one input.

    Attributes:
        kind: of the head. Of "single" and "words" the probabilities of all classes add up to 1; of
            "multi" and "soft" every class has one of its own.
        top: the most probable classes, best first; of a head of words none.
        words: of a head of words, its words; else none.
        at_least: what is less probable is not told.
        unsure: how unsure several passes or models are; None where there was one, and of a head of
            words, whose words have their own.
        maps: what argued for each class of `top`, or for the label of each word; none where that
            was not asked for.
    """

    kind: Kind
    top: tuple[Ranked, ...] = ()
    words: tuple[Word, ...] = ()
    at_least: float = 0.0
    unsure: Unsure | None = None
    maps: tuple[ClassMap, ...] = ()

    @property
    def abstained(self) -> bool:
        """Whether the most probable class is not probable enough; of words, whether all are so."""
        if self.kind == "words":
            return bool(self.words) and all(word.label is None for word in self.words)
        return self.top[0].probability < self.at_least

    @property
    def uncertainty(self) -> Unsure | tuple[Unsure | None, ...] | None:
        """How unsure several passes or models are; of a head of words one a word."""
        if self.kind == "words":
            return tuple(word.unsure for word in self.words)
        return self.unsure

    @property
    def label(self) -> Told:
        """The most probable class, None if it is not told; of a head of words that of each word."""
        if self.kind == "words":
            return tuple(word.label for word in self.words)
        return None if self.abstained else self.top[0].label

    @property
    def probability(self) -> float | tuple[float, ...]:
        """How probable `label` is; of a head of words one number a word."""
        if self.kind == "words":
            return tuple(word.probability for word in self.words)
        return self.top[0].probability

    @property
    def labels(self) -> tuple[str | None, ...]:
        """The classes that are told.

        Of a "multi" head those of `top` with a probability of 0.5, and of `at_least`, or more; of
        words that of each; of others `label`, or nothing where that is not told.
        """
        if self.kind == "multi":
            likely = max(LIKELY, self.at_least)
            return tuple(one.label for one in self.top if one.probability >= likely)
        label = self.label
        if isinstance(label, tuple):
            return label
        return () if label is None else (label,)

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as JSON holds it."""
        withheld = {"abstained": True} if self.abstained else {}
        if self.kind == "words":
            words = [word.to_dict() for word in self.words]
            return {"label": list(self.labels), **withheld, "words": words}
        own: dict[str, Any] = {"label": self.label, **withheld, "probability": self.probability}
        if self.kind == "multi":
            own["labels"] = list(self.labels)
        if self.unsure is not None:
            own["uncertainty"] = self.unsure._asdict()
        return {**own, "top": [one._asdict() for one in self.top]}


@dataclass(frozen=True, repr=False)
class Classification:
    """What a classifier says of one input.

    Attributes:
        images: the names of its pictures, their paths where they have one.
        text: its text, or the words of it where words have labels; None without one.
        answers: of each head.
        attention: what argued for the classes, of all heads; None where it was not asked for.
    """

    images: tuple[str, ...]
    text: Text | None
    answers: Mapping[str, Answer]
    attention: DecisionRecord | None = None

    def __getitem__(self, head: str) -> Answer:
        """Return what a head says."""
        return self.answers[head]

    def __repr__(self) -> str:
        about = [repr(name) for name in self.images]
        about += [] if self.text is None else [f"text={self.text!r}"]
        said = [f"{head}={answer.label!r}" for head, answer in self.answers.items()]
        return f"Classification({', '.join([*about, *said])})"

    @property
    def label(self) -> Told:
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

    @property
    def abstained(self) -> bool:
        """Whether the first head's label is not probable enough to be told."""
        return self._first.abstained

    @property
    def uncertainty(self) -> Unsure | tuple[Unsure | None, ...] | None:
        """How unsure the first head is; see `Answer`."""
        return self._first.uncertainty

    @property
    def maps(self) -> tuple[ClassMap, ...]:
        """What argued for each class that the first head tells; see `Answer`."""
        return self._first.maps

    def with_maps(self, record: DecisionRecord) -> "Classification":
        """Return the classification with what argued for its classes."""
        maps = {head: class_maps(record, head) for head in self.answers}
        answers = {head: replace(one, maps=maps[head]) for head, one in self.answers.items()}
        return replace(self, answers=answers, attention=record)

    def picture(self) -> np.ndarray:
        """Return the images and the text under what argued for the classes, uint8 [H, W, 3].

        Raises ConfigError where no attention was asked for.
        """
        return record_picture(self._recorded())

    def save(self, path: str | Path) -> Path:
        """Write the classification to a file, whole or not at all; the suffix says what.

        .html is a page to explore what argued for each class in, .png the same as a picture, .npz
        the numbers, .json the classification without them.

        Raises:
            ConfigError: for another suffix, where no attention was asked for for one of the first
                three, and where it is more than a page holds.
        """
        path = Path(path)
        if path.suffix.lower() == ".json":
            write_whole(path, json_line(self.to_dict()))
            return path
        check_suffix(path, also=(".json",))
        return save_record(path, self._recorded())

    def show(self) -> None:
        """Show the classification: in a notebook as a cell's output, else as a page in a browser.

        Without attention it is printed; without a browser, where the page is.
        """
        if self.attention is None:
            print(self)
        else:
            show_record(self, self.attention)

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        if self.attention is None:
            return f"<p>{html.escape(repr(self))}</p>"
        return as_figure(self.picture(), repr(self))

    def _recorded(self) -> DecisionRecord:
        if self.attention is None:
            raise ConfigError(
                "no attention was asked for with this classification: classify with attention=True"
            )
        return self.attention

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
