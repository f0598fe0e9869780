"""Samples whose randomness depends on (seed, epoch, image) alone, whichever process reads them."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor
from torch.utils.data import Dataset

from mmattn.data.bad_samples import BadSamples
from mmattn.data.dataset import CaptionDataset
from mmattn.data.order import stable_hash
from mmattn.data.pixel_steps import PixelSteps
from mmattn.data.stand_ins import any_sample, no_larger
from mmattn.data.worker_faults import AtWork
from mmattn.errors import ConfigError, DataError, ReadError, UserError

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

    @property
    def images(self) -> tuple[Tensor, ...]:
        """The one image."""
        return (self.image,)

    def with_images(self, images: Sequence[Tensor]) -> "Sample":
        """Return the sample with another image."""
        return replace(self, image=images[0])


class ReadSamples(list[Any]):
    """Samples that were read together.

    Attributes:
        images: those of all samples, one after another, float [n, 3, height, width]: the samples'
            own are parts of it. None where there is none, or each is a tensor of its own.
    """

    images: Tensor | None = None


def stacked_images(samples: list[Any]) -> Tensor:
    """Return the images of all samples as one tensor, which costs nothing where they are in one."""
    images = samples.images if isinstance(samples, ReadSamples) else None
    if images is not None:
        return images
    return torch.stack([image for sample in samples for image in sample.images])


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
        bad: what becomes of samples that cannot be read. They are left out of their batches, or
            another one stands in for each, which depends on its index alone; either way no batch
            is empty. Where batches have a budget of tokens, none stands in that is larger: a
            sample for which there is no such one is left out. With None the first one raises its
            `DataError`, as evaluation should.
    """

    def __init__(
        self,
        dataset: KeyedImages,
        transform: Callable[[Tensor], Tensor],
        seed: int,
        bad: BadSamples | None = None,
    ):
        self.dataset = dataset
        self.seed = seed
        self._steps = PixelSteps(transform)
        self._bad = bad
        self.at_work = AtWork()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, item: tuple[int, int]) -> Any:
        return self.__getitems__([item])[0]

    def __getitems__(self, items: list[tuple[int, int]]) -> ReadSamples:
        """Return the samples of a batch. Raises `DataError` for an image that cannot be read."""
        with keyed_rng() as reseed:
            read = [self._named(epoch, index, reseed) for epoch, index in items]
            samples = [sample for sample in read if sample is not None]
            if not samples:
                epoch, index = items[0]
                samples = [self._stand_in(epoch, index, reseed)]
        return self._finished(samples)

    @abstractmethod
    def sample(self, epoch: int, index: int, reseed: Callable[[int], object]) -> Any:
        """Return one sample, its images put through `pixels`, or None where it is to be left out.

        `reseed` before anything is drawn.
        """

    def pixels(self, image: Tensor) -> Tensor:
        """Return an image as the transform makes it, but for what is done to a batch at once."""
        return self._steps(image)

    def readable(self, index: int, read: Callable[[int], Read]) -> tuple[int, Read] | None:
        """Return (index, read(index)) of `index`, or of the first readable of its replacements.

        None where bad samples are left out and this is one, or where none of its replacements can
        be read. A file known to be bad is tried again: skipping it would make the choice depend on
        what this process has read before.
        """
        for place in chain([index], self._replacements(index)):
            try:
                return place, read(place)
            except ReadError:  # storage failed: the sample is as good as before
                raise
            except DataError as error:
                if self._bad is None:
                    raise
                self._bad.add(place, self.dataset.key(place), error)
                if self._bad.skip:
                    return None
        return None

    def _replacements(self, index: int) -> Iterator[int]:
        sizes = None if self._bad is None else self._bad.sizes
        if sizes is None:
            return any_sample(index, len(self), self.seed)
        return no_larger(index, sizes, self.seed)

    def _stand_in(self, epoch: int, index: int, reseed: Callable[[int], object]) -> Any:
        """Return the sample that a batch of nothing but bad samples has instead of none.

        It is alone there, so its size does not matter: each fits into a budget by itself.
        """
        places = any_sample(index, len(self), self.seed)
        samples = (self._named(epoch, place, reseed) for place in places)
        return next(sample for sample in samples if sample is not None)

    def _named(self, epoch: int, index: int, reseed: Callable[[int], object]) -> Any:
        """Return one sample; an unforeseen error says which one it was."""
        self.at_work.note(index)
        try:
            return self.sample(epoch, index, reseed)
        except UserError:
            raise
        except Exception as error:
            name = self.dataset.key(index)
            error.add_note(f"This was sample {index} of the set, {name!r}, in epoch {epoch}.")
            raise

    def _finished(self, samples: list[Any]) -> ReadSamples:
        """Normalise all images at once."""
        images = [image for sample in samples for image in sample.images]
        batch = self._steps.normalised(images) if images else None
        if batch is None:
            finish = self._steps.normalise or _as_is
            parts = iter([finish(image) for image in images])
        else:
            parts = iter(batch)
        finished = ReadSamples(
            sample.with_images([next(parts) for _ in sample.images]) for sample in samples
        )
        finished.images = batch
        return finished


def _as_is(image: Tensor) -> Tensor:
    return image


class SampleReader(KeyedReader):
    """Reads the images of a `CaptionDataset` with their captions.

    Args:
        captions_per_image: draw this many captions of an image, each once before any comes twice;
            None takes all of them in their own order. The other arguments are those of
            `KeyedReader`.

    Raises:
        ConfigError: `captions_per_image` is out of its range.
    """

    dataset: CaptionDataset

    def __init__(
        self,
        dataset: CaptionDataset,
        transform: Callable[[Tensor], Tensor],
        seed: int,
        captions_per_image: int | None = None,
        bad: BadSamples | None = None,
    ):
        super().__init__(dataset, transform, seed, bad)
        self.captions_per_image = checked_number("captions_per_image", captions_per_image)

    def sample(self, epoch: int, index: int, reseed: Callable[[int], object]) -> Sample | None:
        """Return one image with its captions."""
        found = self.readable(index, self.dataset.image)
        if found is None:
            return None
        index, image = found
        key = self.dataset.key(index)
        captions, known = self.dataset.captions(index), ()
        if self.captions_per_image is not None:
            reseed(stable_hash(self.seed, epoch, key, "captions"))
            captions, known = draw(captions, self.captions_per_image), captions
        reseed(stable_hash(self.seed, epoch, key, "image"))
        return Sample(key, self.pixels(image), captions, known)


def checked_number(key: str, number: int | None) -> int | None:
    """Return how many are to be drawn. Raises ConfigError for none."""
    if number is not None and number < 1:
        raise ConfigError(f"{key}={number} must be at least 1, or null")
    return number


def draw(texts: tuple[Read, ...], number: int) -> tuple[Read, ...]:
    """Return `number` of `texts` in random order, going round again where there are fewer."""
    order = torch.randperm(len(texts)).tolist()
    return tuple(texts[order[i % len(order)]] for i in range(number))
