"""What argued for the classes of a batch of inputs, as a record of each input."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmattn.batch import LabelBatch
from mmattn.bundle import ClassifierBundle
from mmattn.data.tokenizer import CaptionTokenizer
from mmattn.maps.decision import Decision, decision_relevance
from mmattn.maps.decision_record import DecisionRecord, ExplainedClass, SeenImage
from mmattn.maps.words import Span, Word, group_words
from mmattn.pipeline.classification import Classification
from mmattn.pipeline.label_batch import Prepared
from mmattn.pipeline.wording import wording

AT_ONCE = 16  # inputs explained together, of which the weights of all layers are kept


class Argued(NamedTuple):
    """A class of one input, and the relevance of each patch [M, h, w] and each token [T]."""

    row: int
    explained: ExplainedClass
    image: np.ndarray
    text: np.ndarray


class Reading(NamedTuple):
    """A text as the model reads it, in the T tokens of it: see `DecisionRecord`."""

    text: str | None
    offsets: tuple[Span, ...]
    words: tuple[Word, ...]


def records(
    bundle: ClassifierBundle,
    batch: LabelBatch,
    asked: Sequence[Prepared],
    said: Sequence[Classification],
) -> list[DecisionRecord | None]:
    """Return what argued for each class that is told of each input; None where none is.

    Each of a head's classes, or words, costs a forward and a backward pass of the batch. The model
    is in evaluation mode, whatever the classifications are a mean of.

    Args:
        bundle: the classifier.
        batch: the inputs.
        asked: the same, with the original images.
        said: what is told of each.
    """
    found: list[list[Argued]] = [[] for _ in asked]
    for head in said[0].answers:
        of_words = bundle.classes[head].kind == "words"
        explain = _words if of_words else _classes
        for argued in explain(bundle, batch, asked, said, head):
            found[argued.row].append(argued)
    return [
        _record(one, own, bundle.tokenizer) if own else None
        for one, own in zip(asked, found, strict=True)
    ]


def _classes(
    bundle: ClassifierBundle,
    batch: LabelBatch,
    asked: Sequence[Prepared],
    said: Sequence[Classification],
    head: str,
) -> Iterator[Argued]:
    """Yield what argued for each of a head's most probable classes."""
    classes = bundle.classes[head]
    for rank in range(len(said[0][head].top)):
        best = [one[head].top[rank] for one in said]
        chosen = torch.tensor([classes.index[one.label] for one in best])
        decision = decision_relevance(
            bundle.model, batch, head, chosen, kind=classes.kind, at_once=AT_ONCE
        )
        for row, one in enumerate(best):
            explained = ExplainedClass(head, one.label, one.probability)
            yield Argued(row, explained, *_relevance(decision, row, asked[row]))


def _words(
    bundle: ClassifierBundle,
    batch: LabelBatch,
    asked: Sequence[Prepared],
    said: Sequence[Classification],
    head: str,
) -> Iterator[Argued]:
    """Yield what argued for the most probable label of each word, told or not."""
    classes = bundle.classes[head]
    for place in range(max(len(one[head].words) for one in said)):
        rows = [row for row, one in enumerate(said) if place < len(one[head].words)]
        part, word = batch.select(rows), torch.full((len(rows),), place)
        decision = decision_relevance(
            bundle.model, part, head, word=word, kind="words", at_once=AT_ONCE
        )
        for at, row in enumerate(rows):
            one, label = said[row][head].words[place], classes.names[int(decision.classes[at])]
            explained = ExplainedClass(head, label, one.probability, one.word, place)
            yield Argued(row, explained, *_relevance(decision, at, asked[row]))


def _relevance(decision: Decision, row: int, asked: Prepared) -> tuple[np.ndarray, np.ndarray]:
    """Return the relevance of an example's own images [M, h, w] and its own tokens [T]."""
    images, read = len(asked.pixels), asked.question.text is not None
    image = np.zeros((0, 0, 0), np.float32)
    if decision.image is not None and images:
        image = _array(decision.image[row, :images])
    text = np.zeros(0, np.float32)
    if decision.text is not None and read:
        text = _array(decision.text[row, : len(asked.question.ids)])
    return image, text


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.float().cpu().numpy().copy()  # a view would keep that of the whole batch


def _record(
    asked: Prepared, argued: Sequence[Argued], tokenizer: CaptionTokenizer | None
) -> DecisionRecord:
    """Return the record of one input."""
    question, read = asked.question, reading(asked, tokenizer)
    images = [
        SeenImage(picture.name, original.image, original.placement)
        for picture, original in zip(question.pictures, asked.originals, strict=True)
    ]
    return DecisionRecord(
        key=question.name,
        images=tuple(images),
        text=read.text,
        offsets=read.offsets,
        words=read.words,
        classes=tuple(one.explained for one in argued),
        image_relevance=np.stack([one.image for one in argued]),
        text_relevance=np.stack([one.text for one in argued]),
    )


def reading(asked: Prepared, tokenizer: CaptionTokenizer | None) -> Reading:
    """Return a text as the model reads it; nothing where there is none.

    Begin and end belong to no word, nor does anything behind an end token in the text itself.
    """
    if asked.question.text is None or tokenizer is None:
        return Reading(None, (), ())
    ids = asked.question.ids
    inner = wording(ids[1:-1], tokenizer)
    behind = len(ids) - 1 - len(inner.ids)
    offsets = ((0, 0), *inner.spans, *[(0, 0)] * behind)
    return Reading(inner.text, offsets, tuple(group_words(inner.text, offsets)))
