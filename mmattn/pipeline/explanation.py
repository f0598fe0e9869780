"""What argued for the classes of a batch of inputs, as a record of each input."""

from collections.abc import Iterator, Sequence

import torch

from mmattn.batch import LabelBatch
from mmattn.bundle import ClassifierBundle
from mmattn.maps.argued import Argued, argued, record_of
from mmattn.maps.decision import decision_relevance
from mmattn.maps.decision_record import DecisionRecord, ExplainedClass, SeenImage
from mmattn.pipeline.classification import Classification
from mmattn.pipeline.label_batch import Prepared

AT_ONCE = 16  # inputs explained together, of which the weights of all layers are kept


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
        for row, one in explain(bundle, batch, asked, said, head):
            found[row].append(one)
    return [
        _record(bundle, one, own) if own else None for one, own in zip(asked, found, strict=True)
    ]


def _classes(
    bundle: ClassifierBundle,
    batch: LabelBatch,
    asked: Sequence[Prepared],
    said: Sequence[Classification],
    head: str,
) -> Iterator[tuple[int, Argued]]:
    """Yield what argued for each of a head's most probable classes, with the place of its input."""
    classes = bundle.classes[head]
    for rank in range(len(said[0][head].top)):
        best = [one[head].top[rank] for one in said]
        chosen = torch.tensor([classes.index[one.label] for one in best])
        decision = decision_relevance(
            bundle.model, batch, head, chosen, kind=classes.kind, at_once=AT_ONCE
        )
        for row, one in enumerate(best):
            role = "next" if rank else "predicted"
            explained = ExplainedClass(head, one.label, one.probability, role=role)
            yield row, argued(decision, row, explained, len(asked[row].pixels))


def _words(
    bundle: ClassifierBundle,
    batch: LabelBatch,
    asked: Sequence[Prepared],
    said: Sequence[Classification],
    head: str,
) -> Iterator[tuple[int, Argued]]:
    """Yield what argued for the most probable label of each word, told or not, as `_classes`."""
    classes = bundle.classes[head]
    for place in range(max(len(one[head].words) for one in said)):
        rows = [row for row, one in enumerate(said) if place < len(one[head].words)]
        part, word = batch.select(rows), torch.full((len(rows),), place)
        told = [said[row][head].words[place] for row in rows]
        # Of a mean of passes it may be another class than that of the pass that is explained.
        chosen = torch.tensor([classes.index[one.best] for one in told])
        decision = decision_relevance(
            bundle.model, part, head, chosen, word=word, kind="words", at_once=AT_ONCE
        )
        for at, (row, one) in enumerate(zip(rows, told, strict=True)):
            explained = ExplainedClass(head, one.best, one.probability, one.word, place)
            yield row, argued(decision, at, explained, len(asked[row].pixels))


def _record(bundle: ClassifierBundle, asked: Prepared, classes: Sequence[Argued]) -> DecisionRecord:
    """Return the record of one input."""
    question = asked.question
    images = [
        SeenImage(picture.name, original.image, original.placement)
        for picture, original in zip(question.pictures, asked.originals, strict=True)
    ]
    return record_of(bundle.model, bundle.tokenizer, question.name, images, classes)
