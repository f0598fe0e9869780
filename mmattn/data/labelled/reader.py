"""Groups of examples ready for a model: their images transformed, some of their texts drawn."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from mmattn.data.augment import KeyedReader, checked_number, draw
from mmattn.data.bad_samples import BadSamples
from mmattn.data.labelled.example import Example
from mmattn.data.labelled.groups import LabelledSet
from mmattn.data.order import stable_hash


@dataclass(frozen=True)
class Group:
    """Examples that share their images; the images are float [3, height, width]."""

    images: tuple[Tensor, ...]
    examples: tuple[Example, ...]

    def with_images(self, images: Sequence[Tensor]) -> "Group":
        """Return the group with other images."""
        return replace(self, images=tuple(images))


class GroupReader(KeyedReader):
    """Reads the groups of a `LabelledSet`.

    Args:
        texts_per_image: draw this many examples of a group, each once before any comes twice; None
            takes all of them in their own order. The other arguments are those of `KeyedReader`.

    Raises:
        ConfigError: `texts_per_image` is out of its range.
    """

    dataset: LabelledSet

    def __init__(
        self,
        dataset: LabelledSet,
        transform: Callable[[Tensor], Tensor],
        seed: int,
        texts_per_image: int | None = None,
        bad: BadSamples | None = None,
    ):
        super().__init__(dataset, transform, seed, bad)
        self.texts_per_image = checked_number("texts_per_image", texts_per_image)

    def sample(self, epoch: int, index: int, reseed: Callable[[int], object]) -> Group | None:
        """Return one group."""
        found = self.readable(index, self.dataset.images)
        if found is None:
            return None
        index, images = found
        key, examples = self.dataset.key(index), self.dataset.group(index)
        if self.texts_per_image is not None:
            reseed(stable_hash(self.seed, epoch, key, "texts"))
            examples = draw(examples, self.texts_per_image)
        reseed(stable_hash(self.seed, epoch, key, "image"))
        return Group(tuple(self.pixels(image) for image in images), examples)
