"""Several classifiers of the same classes as one: the mean of what they think, and how they differ.

Lakshminarayanan, Pritzel and Blundell 2017: models that were trained from different seeds disagree
where none of them has seen the like, so that their mean is less sure there than any of them.
"""

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch

from mmattn.bundle import ClassifierBundle
from mmattn.errors import ConfigError
from mmattn.pipeline.classification import Classification, Text
from mmattn.pipeline.classifier_pipeline import ClassifierPipeline
from mmattn.pipeline.labeller import Labeller
from mmattn.pipeline.members import Members
from mmattn.pipeline.pictures import Unreadable
from mmattn.pipeline.questions import Group, Question, questions, reads_of
from mmattn.pipeline.verdict import Opinion, Verdict


@dataclass(frozen=True)
class EnsembleLabeller:
    """Tells the mean of what several models think of inputs.

    Attributes:
        members: of each model.
        verdict: how that is told.
    """

    members: Sequence[Labeller]
    verdict: Verdict

    def results(
        self, questions: Iterable[Question], *, batch_size: int, threads: int
    ) -> Generator[Classification | Unreadable, None, None]:
        """Yield what is said of each input; arguments as of `Labeller.results`.

        Each model reads the pictures for itself, for each may want them in another size.
        """
        asked = list(questions)
        streams = [
            member.opinions(own, batch_size=batch_size, threads=threads)
            for member, own in zip(self.members, each_ones(asked, self.members), strict=True)
        ]
        try:
            for found in zip(*streams, strict=True):
                bad = [one for one in found if isinstance(one, Unreadable)]
                yield bad[0] if bad else self.verdict.classification(joined(found))
        finally:
            for stream in streams:
                stream.close()

    def trial(self, size: int) -> None:
        """Classify a batch of different grey pictures with every model."""
        for member in self.members:
            member.trial(size)


def each_ones(asked: Sequence[Question], members: Sequence[Labeller]) -> list[list[Question]]:
    """Return the questions in the tokens of each model."""
    return [[one if i == 0 else one.others[i - 1] for one in asked] for i in range(len(members))]


def joined(opinions: Sequence[Opinion | Unreadable]) -> Opinion:
    """Return the opinions of several models on one input as one, pass behind pass."""
    found = cast(Sequence[Opinion], opinions)
    heads = found[0].probabilities
    together = {head: torch.cat([one.probabilities[head] for one in found]) for head in heads}
    return Opinion(found[0].question, together)


class ClassifierEnsemble(Members, ClassifierPipeline):
    """Several classifiers of the same classes; `mmattn.load([A, B, C])` makes one.

    Its `classify` tells the mean of their probabilities, each at its own temperature, and how
    unsure they are together. Each member reads images and texts in its own way.

    Args:
        members: two or more, of the same classes by name and order. `model`, `tokenizer` and
            `bundle` are those of the first.

    Raises:
        ConfigError: for a single member, and for one that has other heads or classes than the
            first, reads something else, or takes another number of images.
    """

    def __init__(self, members: Sequence[ClassifierPipeline]):
        if len(members) < 2:
            raise ConfigError(f"an ensemble has 2 models or more, and this has {len(members)}")
        first, *others = members
        for place, other in enumerate(others, 2):
            check_alike(first.bundle, other.bundle, f"model {place} of the ensemble")
        super().__init__(first.bundle, first.device)
        self.members = tuple(members)

    def __repr__(self) -> str:
        return f"ClassifierEnsemble({', '.join(map(repr, self.members))})"

    def labeller(
        self, heads: Sequence[str] | str | None = None, *, attention: bool = False, **settings: Any
    ) -> EnsembleLabeller:
        """Return what tells the classes of some heads; settings as of `classify`.

        Raises:
            ConfigError: as there, and for attention, which is of one model.
        """
        if attention:
            raise ConfigError(
                "attention explains the decision of one model, and this is an ensemble: load one "
                "of its members for it"
            )
        found = [member.own_labeller(heads, **settings) for member in self.members]
        found = [
            one if one.dropout is None else replace(one, dropout=replace(one.dropout, member=i))
            for i, one in enumerate(found)
        ]
        return EnsembleLabeller(found, replace(found[0].verdict, several=True))

    def ask(
        self,
        pairs: Sequence[tuple[Group, Text | None]],
        *,
        truncate: bool = False,
        places: Sequence[str] = (),
    ) -> list[Question]:
        """Return questions in the tokens of every member; see `ClassifierPipeline.ask`."""
        settings = {"truncate": truncate, "places": places}
        own, *others = (questions(pairs, one.bundle, **settings) for one in self.members)
        return [
            one._replace(others=tuple(further)) for one, *further in zip(own, *others, strict=True)
        ]


def check_alike(first: ClassifierBundle, other: ClassifierBundle, what: str) -> None:
    """Raise ConfigError for a model that cannot be in one ensemble with the first one."""
    if list(first.classes) != list(other.classes):
        wanted, found = (", ".join(bundle.classes) for bundle in (first, other))
        raise ConfigError(f"{what} has the heads {found}, and the first model has {wanted}")
    for head, classes in first.classes.items():
        fault = difference(classes.names, other.classes[head].names)
        if classes.kind != other.classes[head].kind:
            fault = f"its kind is {other.classes[head].kind!r}, and the first has {classes.kind!r}"
        if fault:
            raise ConfigError(f"{what}, head {head!r}: {fault}")
    for name, of in (("reads", lambda b: " and ".join(reads_of(b.model))), ("takes", images_of)):
        if of(first) != of(other):
            raise ConfigError(f"{what} {name} {of(other)}, and the first model {of(first)}")


def difference(wanted: Sequence[str], found: Sequence[str]) -> str | None:
    """Return where two lists of classes first differ, in words; None for the same."""
    for place, (one, other) in enumerate(zip(wanted, found, strict=False)):
        if one != other:
            return f"its class {place} is {other!r}, and the first model's is {one!r}"
    if len(wanted) != len(found):
        return f"it has {len(found)} classes, and the first model has {len(wanted)}"
    return None


def images_of(bundle: ClassifierBundle) -> str:
    """Return how many images a model takes, in words."""
    return f"{bundle.model.images} images an input"
