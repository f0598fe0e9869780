"""The index of a shard: which samples it holds, where their images lie, and what it weighs.

It stands beside the shard, `00000.index.json` of `00000.tar`, and holds everything but pixels: a
data set is read from its indexes alone, and an image by its offset. It is plain JSON, one sample a
line, and depends on the shard alone, not on where that lies.
"""

import hashlib
import json
from dataclasses import dataclass
from shlex import quote
from typing import Any

from mmattn.data.captions import excerpt, is_writable
from mmattn.data.images import MAX_BYTES
from mmattn.data.labelled.json_values import fields_fault
from mmattn.data.problems import Problems
from mmattn.data.shards.own_json import read_own
from mmattn.data.shards.samples import ShardSample, sample_name, shard_samples
from mmattn.data.shards.tar import Readable, tar_members
from mmattn.errors import ConfigError, DataError

FORMAT = 1
TAR, INDEX = ".tar", ".index.json"
FIELDS = {"bytes": (int,), "sha256": (str,), "samples": (list,)}
SAMPLE_FIELDS = {
    "key": (str, type(None)),
    "member": (str,),
    "offset": (int,),
    "size": (int,),
    "captions": (list,),
}


@dataclass(frozen=True, slots=True)
class ShardIndex:
    """What a shard holds; `size` and `sha256` are those of the whole tar file."""

    size: int
    sha256: str
    samples: tuple[ShardSample, ...]


def index_name(shard: str) -> str:
    """Return the name of a shard's index. Raises `ConfigError` for what is no name of a shard."""
    if not shard.endswith(TAR):
        packed = shard.endswith((".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst"))
        why = "a compressed file cannot be read at random: unpack it to a .tar" * packed
        raise ConfigError(f"{shard}: {why or 'a shard is a file whose name ends in .tar'}")
    return shard.removesuffix(TAR) + INDEX


def how_to_index(shard: str) -> str:
    """Return how the index of a shard, named with its folder or URL, is written."""
    if "://" not in shard:
        return f"mmattn pack --index {quote(shard)}"
    file = shard.rpartition("/")[2]
    return (
        f"index a copy of it on this machine, mmattn pack --index {quote(file)}, and upload the "
        f"{file.removesuffix(TAR)}{INDEX} that this writes to the place of the shard"
    )


def build_index(file: Readable, name: str) -> ShardIndex:
    """Read a whole shard, and return its index.

    Args:
        file: the shard, open at its beginning, and seekable.
        name: what messages call it.

    Raises:
        DataError: with everything that is wrong with it: see `tar_members` and `shard_samples`.
    """
    sha256, size = checksum(file)
    problems = Problems(name)
    members = tar_members(file, size, problems)
    samples = shard_samples(file, members, problems)
    problems.raise_if_any(
        "A shard is a tar file of images (.jpg, .png, …) and captions (.txt or .json), in which "
        "members of one sample stand together."
    )
    if not samples:
        raise DataError(f"{name} holds no image")
    return ShardIndex(size, sha256, tuple(samples))


def checksum(file: Readable) -> tuple[str, int]:
    """Return the SHA-256 sum of a file that is open at its beginning, and its size in bytes."""
    digest, size = hashlib.sha256(), 0
    while chunk := file.read(1 << 20):
        digest.update(chunk)
        size += len(chunk)
    return digest.hexdigest(), size


def index_bytes(index: ShardIndex) -> bytes:
    """Return the file of an index, which depends on it alone."""
    head = json.dumps({"format": FORMAT, "bytes": index.size, "sha256": index.sha256})
    lines = ",\n".join(json.dumps(_plain(each), ensure_ascii=False) for each in index.samples)
    return f'{head[:-1]}, "samples": [\n{lines}\n]}}\n'.encode()


def read_index(data: bytes, name: str) -> ShardIndex:
    """Return what the file of an index, which messages call `name`, says.

    Raises:
        DataError: for a file that `index_bytes` did not write, or only in part.
    """
    remedy = f"Write it anew: {how_to_index(name.removesuffix(INDEX) + TAR)}"
    value = read_own(data, name, FIELDS, FORMAT, remedy)
    problems, samples = Problems(name), []
    for i, entry in enumerate(value["samples"]):
        fault = _fault(entry, value["bytes"])
        if fault is not None:
            problems.add(f"samples[{i}]", fault)
        else:
            captions = tuple(entry["captions"])
            place = entry["member"], entry["offset"], entry["size"]
            samples.append(ShardSample(entry["key"], captions, *place))
    problems.raise_if_any(remedy)
    return ShardIndex(value["bytes"], value["sha256"], tuple(samples))


def _plain(sample: ShardSample) -> dict[str, Any]:
    return {
        "key": sample.key,
        "member": sample.member,
        "offset": sample.offset,
        "size": sample.size,
        "captions": list(sample.captions),
    }


def _fault(entry: Any, size: int) -> str | None:
    """Return what is wrong with an entry of the index of a shard of `size` bytes, or None."""
    fault = fields_fault(entry, SAMPLE_FIELDS)
    if fault is not None:
        return fault
    start, count = entry["offset"], entry["size"]
    if not (0 <= start <= start + count <= size and 0 <= count <= MAX_BYTES):
        return f"{count:,} bytes from offset {start:,} of a shard of {size:,} bytes"
    if not all(isinstance(text, str) for text in entry["captions"]):
        return "'captions' holds something that is no text"
    if not is_writable(entry["key"] or ""):
        return f"'key' is {excerpt(entry['key'])}, which holds half a surrogate pair"
    if entry["key"] is None and sample_name(entry["member"]) is None:
        return f"no key, and {excerpt(entry['member'])} names no sample"
    return None
