"""A validation set for data that come without one: whole groups, chosen by their names."""

from collections.abc import Sequence

from mmattn.data.labelled.example import Example
from mmattn.data.order import stable_hash
from mmattn.errors import ConfigError, DataError


def hold_out(
    examples: Sequence[Example], fraction: float, seed: int
) -> tuple[list[Example], list[Example]]:
    """Return (training, validation) examples: examples that share images stay together.

    About `fraction` of the groups are held out; which ones depends on their names and `seed` alone.

    Raises:
        ConfigError: where `fraction` is not between 0 and 1.
        DataError: where one of the two would be empty.
    """
    if not 0 < fraction < 1:
        raise ConfigError(f"val_fraction is {fraction}. Give a share between 0 and 1.")
    names = {" ".join(example.images) or example.key for example in examples}
    ranked = sorted(names, key=lambda name: (stable_hash(seed, name, "validation"), name))
    held = set(ranked[: round(fraction * len(ranked))])
    kept: tuple[list[Example], list[Example]] = ([], [])
    for example in examples:
        kept[(" ".join(example.images) or example.key) in held].append(example)
    if not all(kept):
        raise DataError(
            f"val_fraction {fraction} of {len(names)} groups of examples leaves {len(kept[0])} "
            f"examples for training and {len(kept[1])} for validation: both need one or more"
        )
    return kept
