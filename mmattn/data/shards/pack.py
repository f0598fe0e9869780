"""Writing shards and their indexes from any set of captioned images.

The same data give the same bytes. A shard is whole or not there; a process that was stopped goes on
after its last one.
"""

import hashlib
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from urllib.parse import quote

from mmattn.data.captions import excerpt
from mmattn.data.dataset import CaptionDataset, Splits, by_split
from mmattn.data.shards.content import encoded
from mmattn.data.shards.index import ShardIndex, build_index, index_bytes, index_name, read_index
from mmattn.data.shards.source import DATASET, FORMAT
from mmattn.data.shards.tar import MAX_MEMBERS
from mmattn.data.unreadable import unreadable
from mmattn.errors import ConfigError, DataError
from mmattn.files import is_unfinished, write_whole, written_whole

SHARD_BYTES = 256 << 20
UNFINISHED = "unfinished.json"
# A member: a header, and contents that are padded to 512 bytes; the whole is padded to 10,240.
BLOCK, RECORD = 512, 20 * 512
MEMBERS = 2  # of a sample: the image, and the JSON


@dataclass(frozen=True)
class Packed:
    """What was written: split -> images and shards, and the bytes of all shards."""

    images: Mapping[str, int]
    shards: Mapping[str, list[str]]
    size: int


def pack(
    splits: Splits,
    folder: str | Path,
    shard_bytes: int = SHARD_BYTES,
    done: Callable[[str], object] = lambda shard: None,
) -> Packed:
    """Write all sets as shards with indexes; `Shards(folder)` reads them, in the same order.

    Files go in as they are; pictures that are drawn, as PNG. What else a set knows of its images
    (regions of words) stays behind.

    Args:
        splits: what a `CaptionSource` hands over.
        folder: new, empty, or left by a call with the same arguments that was stopped.
        shard_bytes: a shard ends before it would be larger, but holds at least one image; it also
            ends before it would have more members than a reader takes (`MAX_MEMBERS`).
        done: is told the name of every shard that is there.

    Raises:
        ConfigError: for a folder that holds anything else, or was begun with other data.
        DataError: for an image that cannot be read.
    """
    folder = Path(folder).expanduser()
    sets = by_split(splits)
    _begin(folder, sets, shard_bytes)
    shards = {
        split: list(_write_set(folder, _place(split), dataset, shard_bytes, done))
        for split, dataset in sets.items()
    }
    images = {split: len(dataset) for split, dataset in sets.items()}
    described = {"format": FORMAT, "splits": shards, "images": images}
    data = (json.dumps(described, indent=1) + "\n").encode()
    write_whole(folder / DATASET, data, lasting=True)
    (folder / UNFINISHED).unlink()
    size = sum((folder / name).stat().st_size for names in shards.values() for name in names)
    return Packed(images, shards, size)


def write_index(shard: Path) -> ShardIndex:
    """Read a shard that anybody may have written, and write its index beside it.

    Raises:
        ConfigError: for a file that is no `.tar`.
        DataError: names everything that is wrong with it.
    """
    name = index_name(str(shard))
    try:
        with shard.open("rb") as file:
            index = build_index(file, str(shard))
    except OSError as error:
        raise unreadable(str(shard), error) from error
    write_whole(name, index_bytes(index), lasting=True)
    return index


def _place(split: str) -> str:
    """Return the folder of a split."""
    return quote(split.replace("/", "_", 1), safe="")


def _begin(folder: Path, sets: Mapping[str, CaptionDataset], shard_bytes: int) -> None:
    """Claim a folder for these data; what a killed process left half-written is removed.

    Raises `ConfigError` where it is somebody else's.
    """
    if shard_bytes < 1:
        raise ConfigError(f"shards of {shard_bytes} bytes: give 1 or more")
    claim = _claim(sets, shard_bytes)
    if (folder / UNFINISHED).is_file():
        if (folder / UNFINISHED).read_bytes() != claim:
            raise ConfigError(
                f"{folder} was begun with other data, or other sizes of shards: give a new folder, "
                "or delete it"
            )
    elif folder.exists() and not (folder.is_dir() and all(map(is_unfinished, folder.iterdir()))):
        what = "is packed already" if (folder / DATASET).is_file() else "is no empty folder"
        raise ConfigError(f"{folder} {what}: give a new one")
    for path in filter(is_unfinished, list(folder.rglob(".*.tmp"))):
        path.unlink()
    write_whole(folder / UNFINISHED, claim, lasting=True)


def _claim(sets: Mapping[str, CaptionDataset], shard_bytes: int) -> bytes:
    """Return what tells these data from others: their names and captions, not their pixels."""
    digest = hashlib.sha256()
    for split, dataset in sets.items():
        for i in range(len(dataset)):
            line = [split, dataset.key(i), dataset.captions(i)]
            digest.update(json.dumps(line).encode())
    claim = {"format": FORMAT, "shard_bytes": shard_bytes, "data": digest.hexdigest()}
    return (json.dumps(claim) + "\n").encode()


def _write_set(
    folder: Path,
    place: str,
    dataset: CaptionDataset,
    shard_bytes: int,
    done: Callable[[str], object],
) -> Iterator[str]:
    """Write the shards of a set that are not there yet; yield the names of all."""
    start = number = 0
    while start < len(dataset):
        name = f"{place}/{number:05}.tar"
        count = _whole(folder, name)
        if count is None:
            with written_whole(folder / name, lasting=True) as unfinished:
                count = _write_shard(unfinished, dataset, start, shard_bytes)
            write_index(folder / name)
        done(name)
        yield name
        start, number = start + count, number + 1


def _whole(folder: Path, name: str) -> int | None:
    """Return how many samples a shard has that an earlier call wrote; None if it is to be written.

    The index is written after its shard, so both are whole where it is there, unless the power was
    lost between.
    """
    shard, index = folder / name, folder / index_name(name)
    if not (index.is_file() and shard.is_file()):
        return None
    found = read_index(index.read_bytes(), str(index))
    return len(found.samples) if shard.stat().st_size == found.size else None


def _write_shard(path: Path, dataset: CaptionDataset, start: int, shard_bytes: int) -> int:
    """Write samples from `start` on to one shard; return how many there was room for."""
    size, count = 2 * BLOCK, 0
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as shard:
        for i in range(start, len(dataset)):
            ending, image = encoded(dataset, i)
            text = _described(dataset, i)
            size += sum(BLOCK + -(-len(data) // BLOCK) * BLOCK for data in (image, text))
            too_large = -(-size // RECORD) * RECORD > shard_bytes
            if count and (too_large or MEMBERS * (count + 1) > MAX_MEMBERS):
                break
            for suffix, data in ((ending, image), ("json", text)):
                member = tarfile.TarInfo(f"{i:09}.{suffix}")  # owned by nobody, of no time
                member.size = len(data)
                shard.addfile(member, BytesIO(data))
            count += 1
    return count


def _described(dataset: CaptionDataset, i: int) -> bytes:
    """Return the JSON of an image. Raises `DataError` for what no file can hold."""
    described = {"key": dataset.key(i), "captions": dataset.captions(i)}
    try:
        return json.dumps(described, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{excerpt(dataset.key(i))}: its name or a caption holds half a surrogate pair "
            f"({excerpt(error.object[error.start : error.end])}). Write it anew."
        ) from None
