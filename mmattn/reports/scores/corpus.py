"""Images with what people and a model say of them, as text and as tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

from mmattn.data.caption_files.entry import Entry
from mmattn.data.caption_files.matching import Pair
from mmattn.metrics.ptb import tokenize

Words = list[str]


@dataclass(frozen=True)
class Corpus:
    """References and predictions of the same images, in one order.

    Attributes:
        pairs: the images.
        references: the tokens of each reference of each image.
        captions: the tokens of each prediction of each image; the first is scored.
    """

    pairs: Sequence[Pair]
    references: list[list[Words]]
    captions: list[list[Words]]

    @property
    def predictions(self) -> list[Words]:
        """The tokens of the prediction of each image that is scored."""
        return [image[0] for image in self.captions]

    @property
    def empty(self) -> list[Entry]:
        """The predictions without a token; they score 0."""
        return [
            pair.prediction
            for pair, image in zip(self.pairs, self.captions, strict=True)
            if not image[0]
        ]

    @property
    def several(self) -> bool:
        """Whether an image has more than one prediction."""
        return any(len(image) > 1 for image in self.captions)


def corpora(systems: Sequence[Sequence[Pair]]) -> list[Corpus]:
    """Split all captions into tokens, the references of systems on the same images once."""
    references = [tokenized(pair.reference.captions) for pair in systems[0]]
    return [
        Corpus(pairs, references, [tokenized(pair.prediction.captions) for pair in pairs])
        for pairs in systems
    ]


def tokenized(captions: Sequence[str]) -> list[Words]:
    """Split captions into tokens."""
    return [tokenize(caption) for caption in captions]
