"""Older formats of the model folder, brought step by step to the one that this version writes."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from mmattn.errors import CheckpointError
from mmattn.model_folder.layout import FORMAT, library_version

Config = dict[str, Any]
State = dict[str, Tensor]
# Makes configuration and weights of one format those of the next.
Migration = Callable[[Config, State], tuple[Config, State]]


def captioner_as_it_was(config: Config, state: State) -> tuple[Config, State]:
    """Return both unchanged: format 2 says of captioners the same.

    What is new in it are classifiers and joint models.
    """
    return config, state


# The format that a migration starts from -> the migration. There is no format before 1.
MIGRATIONS: dict[int, Migration] = {1: captioner_as_it_was}


def check_format(config: Mapping[str, Any], source: str) -> None:
    """Raise CheckpointError for a format that this version does not read, saying which one does."""
    found = config.get("format")
    if type(found) is not int or found < 0:
        raise CheckpointError(f"{source}: format is {found!r}; it is a number, {FORMAT} the newest")
    writer = f"mmattn {config.get('mmattn', 'of an unknown version')}"
    if found > FORMAT:
        raise CheckpointError(
            f"{source}: {writer} wrote it in format {found}; this is mmattn {library_version()}, "
            f"which reads formats up to {FORMAT}: pip install -U mmattn"
        )
    if not all(step in MIGRATIONS for step in range(found, FORMAT)):
        raise CheckpointError(
            f"{source}: {writer} wrote it in format {found}, which this version no longer reads: "
            "read it with that version"
        )


def migrate(config: Config, state: State) -> tuple[Config, State]:
    """Return both in the format of this version; `check_format` comes first."""
    for step in range(config["format"], FORMAT):
        config, state = MIGRATIONS[step](config, state)
        config = {**config, "format": step + 1}
    return config, state
