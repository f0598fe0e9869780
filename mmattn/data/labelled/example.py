"""What can be classified: examples of images, a text, or both, with a label for every head."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from torch import Tensor

Kind = Literal["single", "multi", "soft", "words"]
# single: a class; multi: any number of classes, none included; soft: a score in [0, 1] for each of
# some answers; words: one class for every word of the text.
Label = str | tuple[str, ...] | Mapping[str, float]


@dataclass(frozen=True)
class Example:
    """Something to classify.

    Attributes:
        key: its name, unique in its set and the same in every run.
        labels: head -> label: the name of a class ("single"), the names of several ("multi", and
            "words": one a word), or answer -> score ("soft").
        images: the names of its images in the set's store, in order; none for a text alone.
        text: its text, or the words of it where every word has a label; None for images alone.
        place: where it was read, such as "train.jsonl:17", for messages.
    """

    key: str
    labels: Mapping[str, Label]
    images: tuple[str, ...] = ()
    text: str | tuple[str, ...] | None = None
    place: str = ""

    @property
    def where(self) -> str:
        """How a message names it: its place, or its key where that is not known."""
        return self.place or self.key

    @property
    def group(self) -> str:
        """The name of all examples that have the same images; a text alone is its own group."""
        return " ".join(self.images) or self.key


@dataclass(frozen=True)
class HeadSpec:
    """What one head of a classifier has to tell.

    Attributes:
        kind: "single", "multi", "soft" or "words", see `Kind`.
        classes: the names of the classes in their order; None: those of the training set, sorted.
        open: labels outside the classes may occur in validation and test (answers in free words):
            they count as wrong. Otherwise they are an error.
        most_common: only so many of the most frequent answers of the training set are classes;
            training examples of other answers are left out. None: all.
    """

    kind: Kind
    classes: tuple[str, ...] | None = None
    open: bool = False
    most_common: int | None = None


@runtime_checkable
class ImageStore(Protocol):
    """Images by name."""

    def image(self, name: str) -> Tensor:
        """Return the image as uint8 RGB [3, height, width]. Raises `DataError` if unreadable."""
        ...
