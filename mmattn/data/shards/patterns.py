"""Which shards a pattern means: braces as WebDataset writes them, and stars."""

import re
from collections.abc import Iterator, Sequence

from mmattn.data.findings import nearest
from mmattn.data.shards.storage import STARS, Storage
from mmattn.errors import ConfigError, DataError

MAX_SHARDS = 100_000
COUNT_THEM = (
    "Where files cannot be listed, as of most web servers, count them: train/{00000..00012}.tar"
)
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"([0-9]+)\.\.([0-9]+)")


def shard_names(storage: Storage, patterns: str | Sequence[str]) -> list[str]:
    """Return the shards that a pattern, or each of several, means, in that order.

    `{00000..00012}` counts, with as many digits as are written; `{a,b}` chooses; `*`, `?` and
    `[…]` match names that can be listed.

    Raises:
        ConfigError: for braces with something else in them, and stars where they are not looked up.
        DataError: for stars that match nothing, and where nothing can be listed.
    """
    found: list[str] = []
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        for name in expand_braces(pattern):
            found += _matching(storage, name) if STARS.search(name) else [name]
            if len(found) > MAX_SHARDS:
                raise ConfigError(f"{pattern!r} means more than {MAX_SHARDS:,} shards")
    return found


def expand_braces(pattern: str) -> Iterator[str]:
    """Yield every name that a pattern with braces means. Raises `ConfigError` for odd braces."""
    braces = _BRACES.search(pattern)
    if braces is None:
        if "{" in pattern or "}" in pattern:
            raise ConfigError(f"{pattern!r}: write braces as {{00000..00012}} or {{a,b}}")
        yield pattern
        return
    for choice in _choices(braces[1], pattern):
        yield from expand_braces(pattern[: braces.start()] + choice + pattern[braces.end() :])


def _choices(inside: str, pattern: str) -> list[str]:
    counted = _RANGE.fullmatch(inside)
    if counted is None and "," not in inside:
        raise ConfigError(f"{pattern!r}: write braces as {{00000..00012}} or {{a,b}}")
    if counted is None:
        return inside.split(",")
    first, last = int(counted[1]), int(counted[2])
    if not first <= last < first + MAX_SHARDS:
        raise ConfigError(
            f"{pattern!r} counts {last - first + 1:,} shards: give 1 to {MAX_SHARDS:,}"
        )
    return [f"{number:0{len(counted[1])}}" for number in range(first, last + 1)]


def _matching(storage: Storage, pattern: str) -> list[str]:
    folder, slash, _ = pattern.rpartition("/")
    try:
        names = storage.names(pattern)
        there = names or storage.names(f"{folder}{slash}*")
    except DataError as error:
        raise type(error)(f"{str(error).rstrip('.')}. {COUNT_THEM}") from None
    if not names:
        raise DataError(f"{storage.root} has no {pattern}{nearest(pattern, there)}. {COUNT_THEM}")
    return names
