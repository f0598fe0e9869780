"""Examples by the images that they share: an image is read, and encoded, once for all its texts."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

from torch import Tensor

from mmattn.data.labelled.example import Example, ImageStore
from mmattn.errors import DataError


class LabelledSet:
    """Examples in groups that have the same images; an example without an image stands alone.

    Args:
        examples: in the order of their file.
        store: their images by name; None where no example has one.

    Raises:
        DataError: for a key that occurs twice, and for images without a store.
    """

    def __init__(self, examples: Iterable[Example], store: ImageStore | None):
        self.store = store
        groups: dict[object, list[Example]] = {}
        seen: dict[str, Example] = {}
        for example in examples:
            if example.key in seen:
                raise DataError(
                    f"{example.where}: the key {example.key!r} is that of "
                    f"{seen[example.key].place or 'an earlier example'} too: give every example "
                    "one of its own"
                )
            if example.images and store is None:
                raise DataError(f"{example.key} has images, and the set no place to read them from")
            seen[example.key] = example
            groups.setdefault(example.images or example.key, []).append(example)
        self._groups = [tuple(group) for group in groups.values()]

    def __len__(self) -> int:
        """Return the number of groups."""
        return len(self._groups)

    def key(self, index: int) -> str:
        """Return the name of a group: that of its images, or the key of its text."""
        return self._groups[index][0].group

    def group(self, index: int) -> tuple[Example, ...]:
        """Return the examples of a group."""
        return self._groups[index]

    def images(self, index: int) -> tuple[Tensor, ...]:
        """Return a group's images, uint8 RGB. Raises `DataError` for one that is unreadable."""
        names = self._groups[index][0].images
        return tuple(self.store.image(name) for name in names) if self.store else ()

    @property
    def examples(self) -> Sequence[Example]:
        """All examples, group by group."""
        return [example for group in self._groups for example in group]

    @cached_property
    def pictures(self) -> "Pictures":
        """All different images of the set, each once."""
        return Pictures(self)

    def with_pictures(self, images: Any) -> "LabelledSet":
        """Return the set with what `images.image(i)` gives instead of image i of `pictures`."""
        store = _Instead(images, {name: i for i, name in enumerate(self.pictures.names)})
        return LabelledSet(self.examples, store)


class Pictures:
    """The different images of a `LabelledSet`, as a `CaptionDataset` without captions."""

    def __init__(self, dataset: LabelledSet):
        names = (name for example in dataset.examples for name in example.images)
        self.names, self._store = tuple(dict.fromkeys(names)), dataset.store

    def __len__(self) -> int:
        return len(self.names)

    def key(self, index: int) -> str:
        """Return the image's name."""
        return self.names[index]

    def captions(self, index: int) -> tuple[str, ...]:
        """Return no caption: texts belong to examples."""
        return ()

    def image(self, index: int) -> Tensor:
        """Return the image as uint8 RGB. Raises `DataError` if unreadable."""
        assert self._store is not None
        return self._store.image(self.names[index])

    def __getattr__(self, name: str) -> Any:
        """Offer the `path` and `stamp` of an image where the store has them, by image name."""
        if name not in ("path", "stamp"):
            raise AttributeError(name)
        of_store = getattr(self._store, name)
        return lambda index: of_store(self.names[index])


class _Instead:
    """A store that gives what another one made of the images."""

    def __init__(self, images: Any, places: dict[str, int]):
        self._images, self._places = images, places

    def image(self, name: str) -> Tensor:
        return self._images.image(self._places[name])
