"""How a source of labelled examples hands over its training, validation and test sets."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from mmattn.data.labelled.example import HeadSpec
from mmattn.data.labelled.groups import LabelledSet


@dataclass(frozen=True)
class LabelledSplits:
    """What a labelled source hands to the data module.

    `test` maps a name to a test set; the name becomes part of the metric (`test/fonts/accuracy`). A
    source with a single test set names it "". `notes` are the findings worth telling the user: what
    was dropped, from which file, and why.
    """

    train: LabelledSet
    val: LabelledSet
    test: Mapping[str, LabelledSet]
    heads: Mapping[str, HeadSpec]
    notes: tuple[str, ...] = field(default=())


@runtime_checkable
class LabelledSource(Protocol):
    """A data set on disk or built in; its constructor takes the configuration, `splits` reads."""

    def splits(self) -> LabelledSplits:
        """Read and check everything. Raises `DataError` naming file, line and remedy."""
        ...
