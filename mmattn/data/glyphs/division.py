"""The division of pictures into training, validation and the two test sets."""

from collections.abc import Sequence
from dataclasses import dataclass

from mmattn.data.glyphs.holdout import (
    Pair,
    compositions,
    hold_out_compositions,
    hold_out_pairs,
)
from mmattn.data.glyphs.names import caption


@dataclass(frozen=True)
class Division:
    """Pairs of character and font. No pair is in two of the lists.

    `train` and `val` hold the same characters in the training fonts; `compositions` holds
    characters that are in neither, in the training fonts; `fonts` holds characters of `train` in
    the held-out fonts. `composed` counts the characters named "... with ...".
    """

    train: list[Pair]
    val: list[Pair]
    fonts: list[Pair]
    compositions: list[Pair]
    composed: int


def divide(
    drawn: Sequence[Pair],
    drawn_held_out: Sequence[Pair],
    share: float,
    val_fraction: float,
    seed: int,
) -> Division:
    """Divide the pairs of the training fonts and take those of the held-out fonts as a test."""
    by_name = {caption(character): character for character, _ in drawn}
    held_names = hold_out_compositions(sorted(by_name), share, seed)
    held = {by_name[name] for name in held_names}
    known = [pair for pair in drawn if pair[0] not in held]
    val = hold_out_pairs(known, val_fraction, seed)
    seen = {character for character, _ in known}
    return Division(
        train=[pair for pair in known if pair not in val],
        val=[pair for pair in known if pair in val],
        fonts=[pair for pair in drawn_held_out if pair[0] in seen],
        compositions=[pair for pair in drawn if pair[0] in held],
        composed=len(compositions(by_name)),
    )
