"""Samples whose randomness depends on (seed, epoch, image) alone, whichever process reads them."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset

from mmattn.data.dataset import CaptionDataset
from mmattn.data.order import stable_hash
from mmattn.errors import ConfigError, DataError

log = logging.getLogger(__name__)


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
    """An image ready for the model, float [3, height, width], its name and its captions."""

    key: str
    image: Tensor
    captions: tuple[str, ...]


class SampleReader(Dataset[Sample]):
    """Reads the images of a `CaptionDataset`, by (epoch, index), and transforms them.

    What is drawn for a sample is a function of (`seed`, epoch, the image's key): the same with any
    number of workers, in any order, and in a resumed run.

    Args:
        dataset: images and their captions.
        transform: uint8 [3, height, width] -> float [3, height, width]; may draw from torch's
            global generator (as `torchvision.transforms.v2` does) and from no other.
        seed: of what is drawn.
        captions_per_image: draw this many captions of an image, each once before any comes twice;
            None takes all of them in their own order.
        max_bad_fraction: the share of the data set, below 1, that may be unreadable. Such an image
            is logged once and another one stands in, which depends on its index alone. With 0 the
            first one raises its `DataError`, as evaluation should.

    Raises:
        ConfigError: `captions_per_image` or `max_bad_fraction` is out of its range.
    """

    def __init__(
        self,
        dataset: CaptionDataset,
        transform: Callable[[Tensor], Tensor],
        seed: int,
        captions_per_image: int | None = None,
        max_bad_fraction: float = 0.0,
    ):
        if captions_per_image is not None and captions_per_image < 1:
            raise ConfigError(
                f"captions_per_image={captions_per_image} must be at least 1, or null"
            )
        if not 0 <= max_bad_fraction < 1:
            raise ConfigError(f"max_bad_fraction={max_bad_fraction} must lie in [0, 1)")
        self.dataset = dataset
        self.transform = transform
        self.seed = seed
        self.captions_per_image = captions_per_image
        self._bad = _BadSamples(len(dataset), max_bad_fraction) if max_bad_fraction else None

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, item: tuple[int, int]) -> Sample:
        return self.__getitems__([item])[0]

    def __getitems__(self, items: list[tuple[int, int]]) -> list[Sample]:
        """Return the samples of a batch. Raises `DataError` for an image that cannot be read."""
        with keyed_rng() as reseed:
            return [self._sample(epoch, index, reseed) for epoch, index in items]

    @property
    def bad_count(self) -> int:
        """How many images could not be read so far, in this process and in its workers."""
        return 0 if self._bad is None else self._bad.count

    def _sample(self, epoch: int, index: int, reseed: Callable[[int], object]) -> Sample:
        index, image = self._readable(index)
        key = self.dataset.key(index)
        captions = self.dataset.captions(index)
        if self.captions_per_image is not None:
            reseed(stable_hash(self.seed, epoch, key, "captions"))
            captions = _draw(captions, self.captions_per_image)
        reseed(stable_hash(self.seed, epoch, key, "image"))
        return Sample(key, self.transform(image), captions)

    def _readable(self, index: int) -> tuple[int, Tensor]:
        """Return (index, image) of `index`, or of the first readable one of its replacements.

        A file known to be bad is tried again: skipping it would make the choice depend on what
        this process has read before.
        """
        attempt = 0
        while True:
            try:
                return index, self.dataset.image(index)
            except DataError as error:
                if self._bad is None:
                    raise
                self._bad.add(index, self.dataset.key(index), error)
            attempt += 1
            index = stable_hash(self.seed, index, attempt, "replacement") % len(self)


def _draw(captions: tuple[str, ...], number: int) -> tuple[str, ...]:
    """Return `number` of `captions` in random order, going round again where there are fewer."""
    order = torch.randperm(len(captions)).tolist()
    return tuple(captions[order[i % len(order)]] for i in range(number))


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
