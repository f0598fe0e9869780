"""Scores of a head that gives each word of a text one class: parts of speech, named entities."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmattn.batch import IGNORE
from mmattn.metrics.class_counts import count_single, f1_macro, f1_micro
from mmattn.metrics.entities import are_entity_tags, count_entities
from mmattn.metrics.label_metric import LabelMetric, check_classes, check_targets

COLUMNS = ("places", "predicted", "targets")


class WordLabelScores(LabelMetric):
    """Accuracy and F1 over words and, where the classes are tags (BIO), over entities.

    Keeps 34 bytes a word, padding included. Of a text that was given twice each word counts once.

    Args:
        classes: the names of the classes.
    """

    def __init__(self, classes: Sequence[str], **kwargs: Any) -> None:
        super().__init__({name: torch.empty(0, dtype=torch.long) for name in COLUMNS}, **kwargs)
        self.classes = tuple(classes)

    def update(
        self, keys: Int[Tensor, "B"], logits: Float[Tensor, "B W C"], targets: Int[Tensor, "B W"]
    ) -> None:
        """Add texts.

        Args:
            keys: hashes of their keys, such as `stable_hash` gives.
            logits: of the classes, for each word.
            targets: the class of each word, -1 for a label outside the classes, or `IGNORE` for
                padding and words without a label: these are left out.

        Raises:
            ValueError: for any other target.
        """
        check_classes(logits, len(self.classes))
        check_targets(targets, len(self.classes))
        places = torch.arange(targets.shape[1], device=targets.device).expand_as(targets)
        self._add(
            keys.to(targets.device)[:, None].expand_as(targets).flatten(),
            (targets != IGNORE).flatten(),
            logits.isfinite().all(-1).flatten(),
            places=places.flatten(),
            predicted=logits.argmax(-1).flatten(),
            targets=targets.flatten(),
        )

    def identity(self, rows: dict[str, Tensor]) -> Int[Tensor, "N"]:
        """Return a number for each word, in the order of keys and of places in the text."""
        text = rows["keys"].unique(return_inverse=True)[1]
        return text * (rows["places"].max() + 1) + rows["places"]

    def scores(self, rows: dict[str, Tensor]) -> dict[str, float]:
        """Return the scores, from the words of all texts.

        accuracy; f1_macro over the classes that occur or are predicted; f1_micro; and for tags
        entity_f1, entity_precision and entity_recall by exact match, see `entities`.

        A word with a label outside the classes counts as wrong. Such words that follow one another
        are an entity that no prediction finds.
        """
        predicted, targets = rows["predicted"], rows["targets"]
        counts = count_single(predicted, targets, len(self.classes))
        scores = {
            "accuracy": (predicted == targets).double().mean().item(),
            "f1_macro": f1_macro(counts),
            "f1_micro": f1_micro(counts),
        }
        return scores | (self._entities(rows) if are_entity_tags(self.classes) else {})

    def _entities(self, rows: dict[str, Tensor]) -> dict[str, float]:
        outside = "I-" + "?" * max(map(len, self.classes))  # longer than any class, so none of them
        names = [*self.classes, outside]  # which -1 stands for
        predicted, true = ([names[c] for c in rows[each].tolist()] for each in COLUMNS[1:])
        texts = ((predicted[a:b], true[a:b]) for a, b in pairwise(_bounds(rows)))
        return count_entities(texts).scores()


def _bounds(rows: dict[str, Tensor]) -> list[int]:
    """Where texts begin, and where they go on after words without a label; and the end."""
    keys, places = rows["keys"], rows["places"]
    begins = (keys[1:] != keys[:-1]) | (places[1:] != places[:-1] + 1)
    return [0, *(begins.nonzero()[:, 0] + 1).tolist(), len(keys)]
