"""Why a classifier decided as it did about some examples, ready to be drawn and kept."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from jaxtyping import Bool
from torch import Tensor

from mmattn.batch import LabelBatch
from mmattn.data.label_module import LabelDataModule
from mmattn.data.labelled.example import Example, Label
from mmattn.data.labelled.groups import LabelledSet
from mmattn.maps.argued import Argued, argued, record_of
from mmattn.maps.decision import decision_relevance
from mmattn.maps.decision_record import DecisionRecord, ExplainedClass, Role, SeenImage
from mmattn.placement import placement_of
from mmattn.tasks.classification import ClassificationTask
from mmattn.training.pictures.attention_records import looking
from mmattn.training.pictures.mistakes import judged

SHOWN = 5  # answers of a label that has many


def decision_records(
    task: ClassificationTask,
    data: LabelDataModule,
    dataset: LabelledSet,
    keys: Sequence[str],
    head: str,
    *,
    at_once: int = 16,
) -> list[DecisionRecord]:
    """Explain the predicted class of each example and, where it is a mistake, the right one too.

    The model is left as it was.

    Args:
        task: the model and its tokenizer.
        data: makes batches of the examples.
        dataset: the set they are from.
        keys: what they are called.
        head: which head decides; one that gives the whole a class.
        at_once: examples explained together.

    Raises:
        ConfigError: for a transform whose geometry is not known.
        DataError: for an image that cannot be read.
    """
    if not keys:
        return []
    examples = examples_of(dataset, keys)
    images = [_originals(task, data, dataset, example) for example in examples]
    with looking(task):
        batch = example_batch(task, data, dataset, keys)
        found, wrong = _explained(task, batch, head, [len(own) for own in images], at_once)
    return [
        replace(
            record_of(task.model, task.tokenizer, example.key, images[b], found[b]),
            truth=truth_of(example.labels.get(head)),
            wrong=bool(wrong[b]),
        )
        for b, example in enumerate(examples)
    ]


def _explained(
    task: ClassificationTask, batch: LabelBatch, head: str, images: Sequence[int], at_once: int
) -> tuple[list[list[Argued]], Bool[Tensor, "B"]]:
    """Return what argued for the classes of each example, so many `images`; and the mistakes."""
    kind, names = task.classes[head].kind, task.classes[head].names
    scores = task.model(batch)[head].float()
    right, wrong = judged(kind, scores, batch.targets[head])
    found: list[list[Argued]] = [[] for _ in batch.keys]
    # As sure as the model is at inference, once its temperature is fitted.
    calibrated = (scores / task.temperature.get(head, 1.0)).softmax(-1)

    def explain(rows: list[int], classes: Tensor, role: Role) -> None:
        part = batch.select(rows)
        decision = decision_relevance(task.model, part, head, classes, kind=kind, at_once=at_once)
        for at, row in enumerate(rows):
            number, share = int(decision.classes[at]), float(decision.probability[at])
            if kind == "single":
                share = float(calibrated[row, number])
            named = ExplainedClass(head, names[number], share, role=role)
            found[row].append(argued(decision, at, named, images[row]))

    explain(list(range(len(batch.keys))), scores.argmax(-1), "predicted")
    mistaken = (wrong & (right >= 0)).nonzero()[:, 0].tolist()
    if mistaken:
        explain(mistaken, right[mistaken], "right")
    return found, wrong


def examples_of(dataset: LabelledSet, keys: Sequence[str]) -> list[Example]:
    """Return the examples of these keys, in their order."""
    found = {example.key: example for example in dataset.examples}
    return [found[key] for key in keys]


def example_batch(
    task: ClassificationTask, data: LabelDataModule, dataset: LabelledSet, keys: Sequence[str]
) -> LabelBatch:
    """Return some examples of a set where the weights are, and in their type."""
    wanted = set(keys)
    groups = [
        index
        for index in range(len(dataset))
        if any(example.key in wanted for example in dataset.group(index))
    ]
    batch = data.evaluation_batch(dataset, groups)
    batch = batch.select([batch.keys.index(key) for key in keys])
    weights = next(task.model.parameters())
    batch = batch.to(weights.device)
    if batch.images is None:
        return batch
    return replace(batch, images=batch.images.to(weights.dtype))


def truth_of(label: Label | None) -> str | None:
    """Return a label in words; None where there is none."""
    if label is None or isinstance(label, str):
        return label
    if isinstance(label, Mapping):
        best = sorted(label.items(), key=lambda item: (-item[1], item[0]))
        names = [f"{name} ({score:.2g})" for name, score in best if score > 0]
    else:
        names = list(label)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more if names else "none of the classes"


def _originals(
    task: ClassificationTask, data: LabelDataModule, dataset: LabelledSet, example: Example
) -> list[SeenImage]:
    """Return an example's images as the user knows them, and which part the network saw."""
    if task.model.vision is None or dataset.store is None or "image" in data.missing(example):
        return []
    tensors = [dataset.store.image(name) for name in example.images]
    images = [tensor.permute(1, 2, 0).numpy() for tensor in tensors]
    return [
        SeenImage(name, i, placement_of(data.eval_transform, (i.shape[0], i.shape[1])))
        for name, i in zip(example.images, images, strict=True)
    ]
