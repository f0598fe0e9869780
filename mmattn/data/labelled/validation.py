"""Validation for data whose authors made training and test sets alone."""

from collections.abc import Mapping, Sequence

from mmattn.data.labelled.division import divide, held_out_note
from mmattn.data.labelled.example import Example
from mmattn.errors import DataError


def with_validation(
    parts: Mapping[str, Sequence[Example]], fraction: float, seed: int, notes: list[str]
) -> dict[str, Sequence[Example]]:
    """Return the splits with "val", that share of the images of "train"; `notes` tells of it.

    Raises:
        ConfigError: for a share of 0.
        DataError: where there is too little to hold out from.
    """
    if not parts["train"]:
        why = "".join(f"\n  {note}" for note in notes)
        raise DataError(f"Split train has no example left: 0 can be used.{why}")
    divided = divide(parts["train"], {"val": fraction}, seed)
    notes.append(held_out_note(divided, seed))
    return {**parts, **divided}
