"""From decisions about a batch to the record of one input, at inference and in training alike."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from torch import Tensor

from mmattn.classifier import Classifier
from mmattn.maps.decision import Decision, WordTokenizer
from mmattn.maps.decision_record import DecisionRecord, ExplainedClass, SeenImage
from mmattn.maps.words import Span, Word, group_words


class Argued(NamedTuple):
    """What argued for a class of one input.

    explained: the class. image: the relevance of each patch of each of its M images; [0, 0, 0]
    without one. text: that of each of its T tokens, begin and end included. ids: these tokens. A
    text that is missing, or not read, has none.
    """

    explained: ExplainedClass
    image: Float[np.ndarray, "M h w"]
    text: Float[np.ndarray, "T"]
    ids: tuple[int, ...]


class Reading(NamedTuple):
    """A text as the model reads it, in the T tokens of it: see `DecisionRecord`."""

    text: str | None
    offsets: tuple[Span, ...]
    words: tuple[Word, ...]


def argued(decision: Decision, row: int, explained: ExplainedClass, images: int) -> Argued:
    """Return what argued for the class of one of the examples of a decision.

    Args:
        decision: about a batch.
        row: of the example.
        explained: the class.
        images: how many the example has; a batch has as many places as its largest one.
    """
    image, text, ids = np.zeros((0, 0, 0), np.float32), np.zeros(0, np.float32), ()
    if decision.image is not None and images:
        image = _array(decision.image[row, :images])
    if decision.text is not None:
        own = decision.valid[row]
        text, ids = _array(decision.text[row, own]), tuple(decision.tokens[row, own].tolist())
    return Argued(explained, image, text, ids)


def record_of(
    model: Classifier,
    tokenizer: WordTokenizer | None,
    key: str,
    images: Sequence[SeenImage],
    classes: Sequence[Argued],
) -> DecisionRecord:
    """Return the record of one input.

    Args:
        model: that decided: what it takes and the input lacks is missing.
        tokenizer: of the model; None where it reads no text.
        key: what the input is called.
        images: those that the model saw.
        classes: one or more, in the order of `DecisionRecord.classes`.
    """
    read = reading(classes[0].ids, tokenizer)
    there = {"image": model.vision is None or images, "text": model.text is None or read.offsets}
    return DecisionRecord(
        key=key,
        images=tuple(images),
        text=read.text,
        offsets=read.offsets,
        words=read.words,
        classes=tuple(one.explained for one in classes),
        image_relevance=np.stack([one.image for one in classes]),
        text_relevance=np.stack([one.text for one in classes]),
        missing=tuple(what for what, found in there.items() if not found),
    )


def reading(ids: Sequence[int], tokenizer: WordTokenizer | None) -> Reading:
    """Return a text as the model reads it, begin and end included; nothing of no tokens.

    Begin and end belong to no word, nor does anything behind an end token in the text itself.
    """
    if not ids or tokenizer is None:
        return Reading(None, (), ())
    text, spans = tokenizer.decode(ids), tokenizer.offsets(ids)
    behind = len(ids) - 1 - len(spans)
    offsets = ((0, 0), *spans, *[(0, 0)] * behind)
    return Reading(text, offsets, tuple(group_words(text, offsets)))


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.float().cpu().numpy().copy()  # a view would keep that of the whole batch
