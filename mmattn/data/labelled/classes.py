"""From labels as words to targets as numbers: which classes a head has, and what is wrong."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property

import torch
from torch import Tensor

from mmattn.batch import IGNORE
from mmattn.data.captions import excerpt
from mmattn.data.labelled.example import Example, HeadSpec, Kind, Label
from mmattn.errors import DataError

SHOWN = 10
OUTSIDE = -1  # the target of a label that is no class
WANTED = {
    "single": "one class",
    "multi": "a list of classes",
    "soft": "a score for each of some answers",
    "words": "a list with one class for every word",
}


@dataclass(frozen=True)
class Classes:
    """The classes of one head, in the order of its scores.

    Attributes:
        kind: "single", "multi", "soft" or "words".
        names: of the classes.
        open: labels outside the classes may occur, and count as wrong.
    """

    kind: Kind
    names: tuple[str, ...]
    open: bool = False

    @cached_property
    def index(self) -> dict[str, int]:
        """The number of each class."""
        return {name: i for i, name in enumerate(self.names)}

    def target(self, label: Label | None) -> Tensor:
        """Return a label's target: [] or, of words, [W] classes; else [classes] scores.

        `IGNORE`, in every place, where there is no label; `OUTSIDE` for one that is no class.
        """
        if isinstance(label, str):
            return torch.tensor(self.index.get(label, OUTSIDE))
        if self.kind in ("single", "words"):
            numbers = [self.index.get(name, OUTSIDE) for name in label or ()]
            return torch.tensor(numbers, dtype=torch.long) if label else torch.tensor(IGNORE)
        if label is None:
            return torch.full((len(self.names),), float(IGNORE))
        scores = label.items() if isinstance(label, Mapping) else ((name, 1.0) for name in label)
        target = torch.zeros(len(self.names))
        for name, score in scores:
            if name in self.index:
                target[self.index[name]] = score
        return target

    def knows(self, label: Label | None) -> bool:
        """Whether at least one of the label's names is a class, or there is none to know."""
        found = list(names_of(label))
        return not found or any(name in self.index for name in found)


def names_of(label: Label | None) -> Iterator[str]:
    """Yield the names of classes in a label."""
    yield from [label] if isinstance(label, str) else label or ()


def _scoring(label: Label | None) -> Iterator[str]:
    """Yield the names in a label but for answers whose score is 0."""
    yield from (n for n in names_of(label) if not isinstance(label, Mapping) or label[n] > 0)


def make_classes(head: str, spec: HeadSpec, train: Iterable[Example]) -> Classes:
    """Return a head's classes: those that are given, or those of the training examples, sorted.

    An answer with scores is a class if it ever scores above 0; if only the most common ones are
    wanted, those that score most most often.

    Raises:
        DataError: for names given twice, a given class without a training example, or no class.
    """
    train = list(train)
    seen = {name for example in train for name in _scoring(example.labels.get(head))}
    if spec.classes is None:
        counts = common(count_labels(head, train))[: spec.most_common]
        kept = seen if spec.most_common is None else {name for name, _ in counts}
        if not kept:
            raise DataError(f"the head {head!r}: no training example has a label for it")
        return Classes(spec.kind, tuple(sorted(kept)), spec.open)
    twice = [name for name, n in Counter(spec.classes).items() if n > 1]
    if twice:
        raise DataError(f"the head {head!r}: the class {twice[0]!r} is given more than once")
    empty = [name for name in spec.classes if name not in seen]
    if empty and not spec.open:
        raise DataError(
            f"the head {head!r}: {len(empty)} of {len(spec.classes)} classes have no training "
            f"example, first {empty[0]!r}: leave them out, or add examples"
        )
    return Classes(spec.kind, tuple(spec.classes), spec.open)


def count_labels(head: str, examples: Iterable[Example]) -> Counter[str]:
    """Return how often each name is a label; of answers with scores, how many score most."""
    counts: Counter[str] = Counter()
    for example in examples:
        label = example.labels.get(head)
        if isinstance(label, Mapping):
            best = max(label.values(), default=0)
            counts.update(name for name, score in label.items() if score == best)
        else:
            counts.update(names_of(label))
    return counts


def common(counts: Counter[str]) -> list[tuple[str, int]]:
    """Return names with their counts, the most frequent first, equals in alphabetical order."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def check_labels(
    heads: Mapping[str, HeadSpec],
    classes: Mapping[str, Classes],
    name: str,
    examples: Sequence[Example],
) -> None:
    """Raise one DataError that names what is wrong with the labels of a set: place, head, label."""
    found = [
        f"  {example.place or example.key}: {fault}"
        for example in examples
        for head in heads
        for fault in [_fault(head, heads[head], classes.get(head), example)]
        if fault is not None
    ]
    unknown = [
        f"  {example.place or example.key}: there is no head {head!r}; the heads are "
        f"{', '.join(heads)}"
        for example in examples
        for head in example.labels.keys() - heads.keys()
    ]
    found += unknown
    if found:
        more = [f"  and {len(found) - SHOWN:,} more"] if len(found) > SHOWN else []
        raise DataError(
            "\n".join(
                [f"{len(found):,} labels of the {name} set are wrong:", *found[:SHOWN], *more]
            )
        )


def check_kinds(heads: Mapping[str, HeadSpec], name: str, examples: Sequence[Example]) -> None:
    """Raise DataError for labels of another kind than their head's, before any class is known."""
    check_labels(heads, {}, name, examples)


def _fault(head: str, spec: HeadSpec, classes: Classes | None, example: Example) -> str | None:
    label = example.labels.get(head)
    if label is None:
        return None
    if not _fits(spec.kind, label):
        return (
            f"{head} is {excerpt(repr(label))}, and the head's kind is {spec.kind!r}: give "
            f"{WANTED[spec.kind]}, or change the kind"
        )
    if spec.kind == "words" and len(label) != len(example.text or ()):
        return f"{head} has {len(label)} labels for {len(example.text or ())} words"
    if classes is None or spec.open:
        return None
    strange = [text for text in names_of(label) if text not in classes.index]
    if not strange:
        return None
    near = get_close_matches(strange[0], classes.names, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{head} is {strange[0]!r}, which is none of its {len(classes.names)} classes{hint}"


def _fits(kind: Kind, label: Label) -> bool:
    if kind == "single":
        return isinstance(label, str)
    if kind == "soft":
        return isinstance(label, Mapping)
    return isinstance(label, tuple)
