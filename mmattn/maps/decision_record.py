"""What a classifier's decision about one input rests on, as viewers show it and files hold it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from mmattn.maps.geometry import Placement, Size
from mmattn.maps.png import checked_picture
from mmattn.maps.record import check_words
from mmattn.maps.words import Span, Word, merge

Role = Literal["predicted", "right", "next"]  # what a class is: see `ExplainedClass`


@dataclass(frozen=True)
class SeenImage:
    """An image of an input: its name, uint8 RGB [H, W, 3], and which part the network saw."""

    name: str
    image: np.ndarray
    placement: Placement


@dataclass(frozen=True)
class ExplainedClass:
    """A class whose relevance is known.

    Attributes:
        head: that decides.
        label: the class.
        probability: what the model gives it.
        word: of a head that labels words, the word that has this label; else None.
        place: of that word among those of the text; else None.
        role: "predicted"; "right", where another was predicted; or "next", less probable.
    """

    head: str
    label: str
    probability: float
    word: str | None = None
    place: int | None = None
    role: Role = "predicted"


@dataclass(frozen=True)
class DecisionRecord:
    """How much each patch and each token of one input argued for each of C classes.

    Attributes:
        key: what the input is called.
        images: its M images.
        text: what the model read, as its tokenizer writes it; None without a text.
        offsets: the characters of each of the T tokens in `text`; (0, 0) of begin and end.
        words: the words of `text`, with their tokens.
        classes: those that are explained, head by head, the one that each head predicts first, or,
            of a head that labels words, word by word.
        image_relevance: [C, M, h, w], 0 or more.
        text_relevance: [C, T], 0 or more; it shares its unit with that of the patches.
        missing: which of "image" and "text" the model takes and this input lacks.
        truth: the label in words; None where there is none. It is that of a single head.
        wrong: whether the predicted class is a mistake.
        set: of which set the input is, such as "val" or "test/fonts"; empty where of none.
        why: why it is shown: "probe" or "mistake"; empty where it was asked for.
        step: of training; None where there is none.

    Raises:
        ValueError: where sizes do not fit, for what is missing and there, and for a truth of
            several heads.
    """

    key: str
    images: tuple[SeenImage, ...]
    text: str | None
    offsets: tuple[Span, ...]
    words: tuple[Word, ...]
    classes: tuple[ExplainedClass, ...]
    image_relevance: np.ndarray
    text_relevance: np.ndarray
    missing: tuple[str, ...] = ()
    truth: str | None = None
    wrong: bool = False
    set: str = ""
    why: str = ""
    step: int | None = None

    def __post_init__(self):
        for one in self.images:
            checked_picture(one.image)
        C, M, T = len(self.classes), len(self.images), len(self.offsets)
        shape = self.image_relevance.shape
        if len(shape) != 4 or shape[:2] != (C, M) or (M and 0 in shape[2:]):
            raise ValueError(
                f"the relevance of images is {shape}; {C} classes and {M} images need "
                f"[{C}, {M}, h, w]"
            )
        if self.text_relevance.shape != (C, T):
            raise ValueError(
                f"the relevance of tokens is {self.text_relevance.shape}; {C} classes and {T} "
                f"tokens need {(C, T)}"
            )
        if not C:
            raise ValueError("a record of a decision explains one class or more")
        if (self.image_relevance < 0).any() or (self.text_relevance < 0).any():
            raise ValueError("relevance is negative: it must be 0 or more")
        there = {"image": bool(self.images), "text": self.text is not None}
        if any(there.get(what, True) for what in self.missing):
            raise ValueError(
                f"missing={self.missing}, but there are {M} images and the text {self.text!r}"
            )
        if self.truth is not None and len(self.heads) > 1:
            raise ValueError(f"the truth {self.truth!r} is of one head, not of {len(self.heads)}")
        check_words(self.words, self.offsets, self.text or "")

    @property
    def grid(self) -> Size:
        """(h, w), the patches of an image; (0, 0) without one."""
        height, width = self.image_relevance.shape[2:]
        return (height, width) if self.images else (0, 0)

    @property
    def tokens(self) -> tuple[str, ...]:
        """The characters of each token; begin and end are called so."""
        text = self.text or ""
        said = [text[start:end] for start, end in self.offsets]
        if len(said) > 1:
            said[0], said[-1] = "(begin)", "(end)"
        return tuple(said)

    @property
    def word_relevance(self) -> np.ndarray:
        """[C, W]: what the tokens of each word are worth together."""
        return merge(self.text_relevance.T, self.words, "sum").T

    @property
    def heads(self) -> dict[str, list[int]]:
        """Head -> the places of its classes."""
        found: dict[str, list[int]] = {}
        for place, one in enumerate(self.classes):
            found.setdefault(one.head, []).append(place)
        return found

    def only(self, places: Sequence[int]) -> "DecisionRecord":
        """Return the record with some of its classes."""
        rows = list(places)
        return replace(
            self,
            classes=tuple(self.classes[place] for place in rows),
            image_relevance=self.image_relevance[rows],
            text_relevance=self.text_relevance[rows],
        )

    def in_words(self, place: int) -> str:
        """Say what was decided: "yes 0.98", with the word that is labelled where there is one."""
        one = self.classes[place]
        said = f"{one.label} {one.probability:.2f}"
        return said if one.word is None else f"{one.word}: {said}"
