"""The captioned images of some shards, read by index without unpacking anything."""

from dataclasses import dataclass

from torch import Tensor

from mmattn.data.images import decode_image
from mmattn.data.shards.storage import Storage


@dataclass(frozen=True, slots=True)
class PlacedSample:
    """A captioned image in one of several shards.

    Attributes:
        key: its name, unique in its set.
        captions: cleaned, none of them empty.
        shard: the name of its shard.
        member: the image's name in the shard.
        offset: where its bytes begin in the shard.
        size: how many there are.
        sha256: the sum of the whole shard.
    """

    key: str
    captions: tuple[str, ...]
    shard: str
    member: str
    offset: int
    size: int
    sha256: str


@dataclass(frozen=True)
class ShardSet:
    """A `CaptionDataset` of images in shards; each is one read at a known place."""

    storage: Storage
    samples: tuple[PlacedSample, ...]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.samples)

    def key(self, index: int) -> str:
        """Return the image's name."""
        return self.samples[index].key

    def captions(self, index: int) -> tuple[str, ...]:
        """Return the image's captions in their order."""
        return self.samples[index].captions

    def content(self, index: int) -> bytes:
        """Return the bytes of the image file. Raises `DataError` if they cannot be read."""
        sample = self.samples[index]
        return self.storage.read_range(sample.shard, sample.offset, sample.size)

    def stamp(self, index: int) -> tuple[str, str, int, int]:
        """Return what changes when the image does: its place, and the sum of its shard."""
        sample = self.samples[index]
        return sample.shard, sample.sha256, sample.offset, sample.size

    def image(self, index: int) -> Tensor:
        """Return the image as uint8 RGB [3, height, width]. Raises `DataError` if unreadable."""
        sample = self.samples[index]
        where = f"{self.storage.root}/{sample.shard}:{sample.member}"
        return decode_image(self.content(index), where)
