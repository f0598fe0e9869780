"""Samples whose randomness depends on (seed, epoch, image) alone, whichever process reads them."""

import logging
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor
from torch.utils.data import Dataset

from mmattn.data.dataset import CaptionDataset
from mmattn.data.order import stable_hash
from mmattn.errors import ConfigError, DataError

log = logging.getLogger(__name__)
Read = TypeVar("Read")


@contextmanager
def keyed_rng() -> Iterator[Callable[[int], object]]:
    """Lend torch's global CPU generator: `with keyed_rng() as reseed: reseed(key); ...`.

    `torchvision.transforms.v2` takes no generator and draws from the global one, never from
    Python's `random` or NumPy's. Its state is put back on leaving, also after an exception.
    `torch.manual_seed` does the same some 80 times slower, for it seeds every GPU as well.
    The generator looks at the low 32 bits of a key only.
    """
    state = torch.get_rng_state()
    try:
        yield torch.default_generator.manual_seed
    finally:
        torch.set_rng_state(state)


@dataclass(frozen=True)
class Sample:
    """An image ready for the model, float [3, height, width], its name and its captions.

    `known` are all that it has, where `captions` were drawn from them; else it is empty.
    """

    key: str
    image: Tensor
    captions: tuple[str, ...]
    known: tuple[str, ...] = ()


@runtime_checkable
class KeyedImages(Protocol):
    """What has a name for each index, the same in every run."""

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def key(self, index: int) -> str:
        """Return the sample's name."""
        ...


class KeyedReader(Dataset[Any]):
    """Reads what has images, by (epoch, index), and transforms the images.

    What is drawn for a sample is a function of (`seed`, epoch, the sample's key): the same with any
    number of workers, in any order, and in a resumed run.

    Args:
        dataset: has a length, and a key for each index.
        transform: uint8 [3, height, width] -> float [3, height, width]; may draw from torch's
            global generator (as `torchvision.transforms.v2` does) and from no other.
        seed: of what is drawn.
        max_bad_fraction: the share of the data set, below 1, that may be unreadable. Such a sample
            is logged once and another one stands in, which depends on its index alone. With 0 the
            first one raises its `DataError`, as evaluation should.

    Raises:
        ConfigError: `max_bad_fraction` is out of its range.
    """

    def __init__(
        self,
        dataset: KeyedImages,
        transform: Callable[[Tensor], Tensor],
        seed: int,
        max_bad_fraction: float = 0.0,
    ):
        if not 0 <= max_bad_fraction < 1:
            raise ConfigError(f"max_bad_fraction={max_bad_fraction} must lie in [0, 1)")
        self.dataset = dataset
        self.transform = transform
        self.seed = seed
        self._bad = _BadSamples(len(dataset), max_bad_fraction) if max_bad_fraction else None

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, item: tuple[int, int]) -> Any:
        return self.__getitems__([item])[0]

    def __getitems__(self, items: list[tuple[int, int]]) -> list[Any]:
        """Return the samples of a batch. Raises `DataError` for an image that cannot be read."""
        with keyed_rng() as reseed:
            return [self.sample(epoch, index, reseed) for epoch, index in items]

    @abstractmethod
    def sample(self, epoch: int, index: int, reseed: Callable[[int], object]) -> Any:
        """Return one sample; `reseed` before anything is drawn."""

    @property
    def bad_count(self) -> int:
        """How many samples could not be read so far, in this process and in its workers."""
        return 0 if self._bad is None else self._bad.count

    def readable(self, index: int, read: Callable[[int], Read]) -> tuple[int, Read]:
        """Return (index, read(index)) of `index`, or of the first readable of its replacements.

        A file known to be bad is tried again: skipping it would make the choice depend on what
        this process has read before.
        """
        attempt = 0
        while True:
            try:
                return index, read(index)
            except DataError as error:
                if self._bad is None:
                    raise
                self._bad.add(index, self.dataset.key(index), error)
            attempt += 1
            index = stable_hash(self.seed, index, attempt, "replacement") % len(self)


class SampleReader(KeyedReader):
    """Reads the images of a `CaptionDataset` with their captions.

    Args:
        captions_per_image: draw this many captions of an image, each once before any comes twice;
            None takes all of them in their own order. The other arguments are those of
            `KeyedReader`.

    Raises:
        ConfigError: `captions_per_image` or `max_bad_fraction` is out of its range.
    """

    dataset: CaptionDataset

    def __init__(
        self,
        dataset: CaptionDataset,
        transform: Callable[[Tensor], Tensor],
        seed: int,
        captions_per_image: int | None = None,
        max_bad_fraction: float = 0.0,
    ):
        super().__init__(dataset, transform, seed, max_bad_fraction)
        self.captions_per_image = checked_number("captions_per_image", captions_per_image)

    def sample(self, epoch: int, index: int, reseed: Callable[[int], object]) -> Sample:
        """Return one image with its captions."""
        index, image = self.readable(index, self.dataset.image)
        key = self.dataset.key(index)
        captions, known = self.dataset.captions(index), ()
        if self.captions_per_image is not None:
            reseed(stable_hash(self.seed, epoch, key, "captions"))
            captions, known = draw(captions, self.captions_per_image), captions
        reseed(stable_hash(self.seed, epoch, key, "image"))
        return Sample(key, self.transform(image), captions, known)


def checked_number(key: str, number: int | None) -> int | None:
    """Return how many are to be drawn. Raises ConfigError for none."""
    if number is not None and number < 1:
        raise ConfigError(f"{key}={number} must be at least 1, or null")
    return number


def draw(texts: tuple[Read, ...], number: int) -> tuple[Read, ...]:
    """Return `number` of `texts` in random order, going round again where there are fewer."""
    order = torch.randperm(len(texts)).tolist()
    return tuple(texts[order[i % len(order)]] for i in range(number))


class _BadSamples:
    """Which images could not be read: one byte each, in memory shared with the workers.

    Setting a byte needs no lock, and counting images, not readings, needs no other order of events
    than that they happened.
    """

    def __init__(self, length: int, max_fraction: float):
        self._seen = torch.zeros(length, dtype=torch.bool).share_memory_()
        self._max_fraction = max_fraction

    @property
    def count(self) -> int:
        return int(self._seen.sum())

    def add(self, index: int, key: str, error: DataError) -> None:
        """Note and log a bad image. Raises `DataError` when they are too many."""
        if self._seen[index]:
            return
        self._seen[index] = True
        log.warning("replaced the image %s, which cannot be read: %s", key, error)
        if self.count > self._max_fraction * len(self._seen):
            raise DataError(
                f"{self.count} of {len(self._seen)} images cannot be read, which is more than "
                f"max_bad_fraction={self._max_fraction}: mend or remove the files named in the "
                f"log, or allow more. The last one: {error}"
            ) from error
