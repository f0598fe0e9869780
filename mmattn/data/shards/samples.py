"""From the members of a shard to captioned images, by WebDataset's rule.

Members that stand together and have the same name up to the first dot are one sample: `0001.jpg`
with `0001.txt` or `0001.json`.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import PurePosixPath
from typing import Any

from mmattn.data.captions import excerpt, is_writable
from mmattn.data.folder import SUFFIXES
from mmattn.data.problems import Problems
from mmattn.data.shards.tar import Member, Readable
from mmattn.errors import DataError

# What opens by running code. WebDataset's own reader opens .pyd, .pickle and .pth unasked.
PICKLES = frozenset({"pkl", "pickle", "pyd", "pth", "pt", "ckpt", "joblib", "dill"})
MAX_TEXT = 1 << 20  # bytes of the captions of one image
_NAME = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ShardSample:
    """A captioned image in a shard.

    Attributes:
        key: the name that our shards keep of it, unique in its set; None in other shards, whose
            samples are known by where they are: see `key_in`.
        captions: as they are in the shard, not cleaned.
        member: the image's name in the shard.
        offset: where its bytes begin in the shard.
        size: how many there are.
    """

    key: str | None
    captions: tuple[str, ...]
    member: str
    offset: int
    size: int

    def key_in(self, shard: str) -> str:
        """Return the name, unique in its set, of the sample in a shard, named from the root on.

        Other shards may number their samples anew in each, so theirs begins with the shard's.
        """
        if self.key is not None:
            return self.key
        stem = PurePosixPath(shard.removesuffix(".tar"))  # "./a" and "a" are the same
        return f"{stem}/{sample_name(self.member)}"


def sample_name(member: str) -> str | None:
    """Return the name that the members of a sample share, None for one that is of no sample."""
    name = _NAME.fullmatch(member.removeprefix("./"))
    return None if name is None else name[1]


def shard_samples(
    file: Readable, members: Sequence[Member], problems: Problems
) -> list[ShardSample]:
    """Return the samples of a shard; what is wrong with it goes to `problems`.

    Captions are the field "captions" (a list) of the JSON, or the text file, or the field "caption"
    of the JSON. A sample's key is the field "key" that our shards have (see `pack`).
    """
    found, seen = [], set()
    for key, group in groupby(_named(members, problems), key=lambda each: each[0]):
        parts = [(ending, member) for _, ending, member in group]
        if key in seen:
            problems.note(f"{problems.path}:{key}: the members of a sample must stand together")
            continue
        seen.add(key)
        try:
            found.append(_sample(file, parts))
        except DataError as error:
            problems.note(f"{problems.path}:{key}: {error}")
    return found


def _named(members: Sequence[Member], problems: Problems) -> Iterator[tuple[str, str, Member]]:
    """Yield (key, ending, member); hidden files and names without an ending are passed over."""
    for member in members:
        name = _NAME.fullmatch(member.name.removeprefix("./"))
        if name is None:
            continue
        ending = name[2].lower()
        if ending.rpartition(".")[2] in PICKLES:
            problems.note(
                f"{problems.path}:{excerpt(member.name)} is a pickle, which can run code when it "
                "is opened"
            )
        else:
            yield name[1], ending, member


def _sample(file: Readable, parts: list[tuple[str, Member]]) -> ShardSample:
    """Return the sample of some members. Raises `DataError` for what is wrong with it."""
    images = [member for ending, member in parts if f".{ending}" in SUFFIXES]
    if len(images) != 1:
        names = ", ".join(member.name for _, member in parts)
        raise DataError(f"{len(images)} images, where one was expected ({names})")
    texts = {ending: member for ending, member in parts if ending in ("json", "txt")}
    described = _described(file, texts["json"]) if "json" in texts else {}
    captions = [described[name] for name in ("caption",) if name in described]
    key = None
    if "captions" in described:
        captions, own = described["captions"], described.get("key")
        # Only our own shards have both: there, the key is the name that the image had before.
        key = own if isinstance(own, str) else None
    elif "txt" in texts:
        captions = [_text(file, texts["txt"])]
    if not isinstance(captions, list) or not all(isinstance(text, str) for text in captions):
        raise DataError("the captions in its JSON are no texts")
    for text in (*captions, key or ""):
        if not is_writable(text):
            raise DataError(f"{texts['json'].name}: {excerpt(text)} holds half a surrogate pair")
    (image,) = images
    return ShardSample(key, tuple(captions), image.name, image.offset, image.size)


def _described(file: Readable, member: Member) -> dict[str, Any]:
    """Return the object in a JSON member."""
    try:
        value = json.loads(_text(file, member))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{member.name} is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise DataError(f"{member.name} holds no JSON object")
    return value


def _text(file: Readable, member: Member) -> str:
    """Return the text of a member."""
    if member.size > MAX_TEXT:
        raise DataError(f"{member.name} has {member.size:,} bytes; the limit is {MAX_TEXT:,}")
    file.seek(member.offset)
    try:
        return file.read(member.size).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        at = f"byte offset {error.start:,}: 0x{error.object[error.start]:02x}"
        raise DataError(f"{member.name} is not UTF-8 text ({at})") from None
