"""Entities from the tags of words (BIO), and how many of them were found."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Entity(NamedTuple):
    """A run of words, `start` to `end` (exclusive), and what kind of thing it names."""

    kind: str
    start: int
    end: int


class EntityCounts(NamedTuple):
    """Numbers of entities: right ones among the predicted, predicted ones, and labelled ones."""

    right: int
    predicted: int
    labelled: int

    def scores(self) -> dict[str, float]:
        """Return entity_precision, entity_recall and entity_f1.

        All are NaN where there is no entity on either side; otherwise a share of none is 0, as in
        conlleval.
        """
        values = (
            _share(self.right, self.predicted),
            _share(self.right, self.labelled),
            _share(2 * self.right, self.predicted + self.labelled),
        )
        if not self.predicted + self.labelled:
            values = (float("nan"),) * 3
        names = ("entity_precision", "entity_recall", "entity_f1")
        return dict(zip(names, values, strict=True))


def are_entity_tags(names: Sequence[str]) -> bool:
    """Whether class names are tags: "O", and "B-…" and "I-…" (or plain "B", "I") for entities."""
    prefixes = {name.partition("-")[0] for name in names if name != "O"}
    return "O" in names and bool(prefixes) and prefixes <= {"B", "I"}


def entities(tags: Sequence[str]) -> list[Entity]:
    """Return the entities of one text, in order.

    "B-…" begins one. "I-…" goes on with it; after "O", after another kind or at the start of the
    text it begins one too, as in conlleval (Tjong Kim Sang and De Meulder 2003), so that IOB1 and
    untidy predictions are read as well.
    """
    found: list[Entity] = []
    for place, tag in enumerate(tags):
        prefix, _, kind = tag.partition("-")
        if prefix == "O":
            continue
        last = found[-1] if found else None
        if prefix == "I" and last and (last.kind, last.end) == (kind, place):
            found[-1] = last._replace(end=place + 1)
        else:
            found.append(Entity(kind, place, place + 1))
    return found


def count_entities(
    texts: Iterable[tuple[Sequence[str], Sequence[str]]],
) -> EntityCounts:
    """Count over texts, each given as (predicted tags, labels), tag by tag.

    An entity is right if kind, start and end are.
    """
    right = predicted = labelled = 0
    for tags, labels in texts:
        found, true = set(entities(tags)), set(entities(labels))
        right += len(found & true)
        predicted += len(found)
        labelled += len(true)
    return EntityCounts(right, predicted, labelled)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
