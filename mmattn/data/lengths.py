"""Texts that are longer than what is read of one: refused, or cut with a warning."""

import logging
from collections.abc import Callable, Sequence

from mmattn.errors import DataError

log = logging.getLogger(__name__)


def check_lengths(
    what: str,
    lengths: Sequence[int],
    place: Callable[[int], str],
    max_length: int,
    *,
    truncate: bool,
) -> None:
    """Refuse texts that are too long, or warn of them where they are to be cut.

    Args:
        what: these texts, in words.
        lengths: in tokens.
        place: number of a text -> which one that is, in words that follow its length.
        max_length: the most tokens that are read of one.
        truncate: cut what is longer.

    Raises:
        DataError: with how many there are, and the longest.
    """
    over = sum(length > max_length for length in lengths)
    if not over:
        return
    longest = max(range(len(lengths)), key=lengths.__getitem__)
    p50, p95 = (sorted(lengths)[int(share * (len(lengths) - 1))] for share in (0.5, 0.95))
    found = (
        f"{over} of {len(lengths)} {what} are longer than max_length={max_length} tokens "
        f"(half have up to {p50}, 95 % up to {p95}); "
        f"the longest has {lengths[longest]}, {place(longest)}"
    )
    if not truncate:
        raise DataError(
            f"{found}. Set data.max_length={lengths[longest]}, or data.truncate=true to cut"
        )
    log.warning("%s. They are cut.", found)
