"""What every set of captioned images offers, and how a source hands over its splits."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from torch import Tensor


@runtime_checkable
class CaptionDataset(Protocol):
    """Images with one or more captions each, read by index."""

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def key(self, index: int) -> str:
        """Return the image's name: unique in this set and the same in every run."""
        ...

    def captions(self, index: int) -> tuple[str, ...]:
        """Return the reference captions, at least one, none of them empty."""
        ...

    def image(self, index: int) -> Tensor:
        """Return the image as uint8 RGB [3, height, width]. Raises `DataError` if unreadable."""
        ...


@runtime_checkable
class GroundedDataset(Protocol):
    """A `CaptionDataset` that also knows which pixels some of its words name."""

    def regions(self, index: int) -> dict[str, np.ndarray]:
        """Return word -> bool mask [height, width] of the pixels that this word names."""
        ...


@dataclass(frozen=True)
class Splits:
    """What a source hands to the data module.

    `test` maps a name to a test set; the name becomes part of the metric (`test/fonts/cider`). A
    source with a single test set names it "" and its metrics are `test/cider`. `notes` are the
    findings worth telling the user: what was dropped, from which file, and why.
    """

    train: CaptionDataset
    val: CaptionDataset
    test: Mapping[str, CaptionDataset]
    notes: tuple[str, ...] = field(default=())


@runtime_checkable
class AnySplits(Protocol):
    """What a source hands over, whatever its sets hold."""

    @property
    def train(self) -> Any:
        """The training set."""
        ...

    @property
    def val(self) -> Any:
        """The validation set."""
        ...

    @property
    def test(self) -> Mapping[str, Any]:
        """The test sets by name."""
        ...


def by_split(splits: Any) -> dict[str, Any]:
    """Return "train", "val", and "test" or "test/NAME" -> set, of what any source hands over."""
    tests = {f"test/{name}" if name else "test": each for name, each in splits.test.items()}
    return {"train": splits.train, "val": splits.val, **tests}


@runtime_checkable
class CaptionSource(Protocol):
    """A data set on disk or built in; its constructor takes the configuration, `splits` reads."""

    def splits(self) -> Splits:
        """Read and check everything. Raises `DataError` naming file, line and remedy."""
        ...
