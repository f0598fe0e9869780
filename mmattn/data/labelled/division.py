"""Validation and test sets for data that come without: whole groups, class by class."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from mmattn.data.labelled.example import Example
from mmattn.data.order import stable_hash
from mmattn.errors import ConfigError, DataError


def check_shares(shares: Mapping[str, float]) -> None:
    """Raise `ConfigError` unless the shares, named as in the configuration, leave a rest."""
    for name, share in shares.items():
        if not 0 <= share < 1:
            raise ConfigError(f"{name} is {share}. Give a share from 0 to below 1.")
    if sum(shares.values()) >= 1:
        parts = " + ".join(f"{name} {share}" for name, share in shares.items())
        raise ConfigError(f"{parts} leave nothing for training. Give smaller shares.")


def divide(
    examples: Sequence[Example], shares: Mapping[str, float], seed: int, head: str | None = None
) -> dict[str, list[Example]]:
    """Return "train" -> examples, and each split of `shares` -> about that share of the groups.

    A share of 0 makes no split: "test" is then absent, and "val" is an error.

    Examples that share images are a group and stay together. With `head`, whose labels are single
    classes, every class is divided in these shares (by the label of a group's first example), and
    keeps a group for training. Which groups are held out depends on their names and `seed` alone;
    examples keep their order.

    Raises:
        ConfigError: where validation would get no share.
        DataError: where a share above 0 leaves its split without an example.
    """
    if shares.get("val") == 0:
        raise ConfigError("val_fraction is 0, and there is no validation set: give a share above 0")
    shares = {split: share for split, share in shares.items() if share}
    strata: dict[str, dict[str, None]] = defaultdict(dict)
    groups: dict[str, None] = {}
    for example in examples:
        if example.group not in groups:
            groups[example.group] = None
            strata[str(example.labels.get(head, "")) if head else ""][example.group] = None
    split_of = _choose(strata, shares, seed)
    divided = {split: [] for split in ("train", *shares)}
    for example in examples:
        divided[split_of.get(example.group, "train")].append(example)
    _check_filled(divided, shares, groups=len(groups), classes=len(strata))
    return divided


def held_out_note(divided: Mapping[str, Sequence[Example]], seed: int) -> str:
    """Return what to tell the user of what `divide` returned."""
    told = ", ".join(f"{len(rows):,} for {split}" for split, rows in divided.items())
    return f"The data come without such a split, so divided here with seed {seed}: {told}"


def _choose(
    strata: Mapping[str, Mapping[str, None]], shares: Mapping[str, float], seed: int
) -> dict[str, str]:
    """Return group -> split of the groups that are held out.

    What rounding gives a class too much or too little, the next class makes up for: many small
    classes still fill their splits.
    """
    split_of = {}
    owed = dict.fromkeys(shares, 0.0)
    for label in sorted(strata):
        ranked = sorted(strata[label], key=lambda name: (stable_hash(seed, name, "held out"), name))
        start = 0
        for split, share in shares.items():
            owed[split] += share * len(ranked)
            count = min(max(round(owed[split]), 0), len(ranked) - 1 - start)
            split_of |= dict.fromkeys(ranked[start : start + count], split)
            owed[split] -= count
            start += count
    return split_of


def _check_filled(
    divided: Mapping[str, Sequence[Example]],
    shares: Mapping[str, float],
    groups: int,
    classes: int,
) -> None:
    for split, share in shares.items():
        if not divided[split]:
            raise DataError(
                f"{split}_fraction {share} of {groups} groups of examples in {classes} classes, "
                f"each of which keeps one for training, leaves 0 for {split}: raise it, or give "
                "more examples"
            )
