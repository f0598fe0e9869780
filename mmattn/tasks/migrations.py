"""Older schemas of a checkpoint, brought step by step to the one that this version writes.

The schema is that of the entry `mmattn`, which a task adds to what Lightning writes; but a
migration may change all of a checkpoint, as where the names of parameters change.
"""

from collections.abc import Callable
from typing import Any

from mmattn.errors import CheckpointError

SCHEMA = 1
Content = dict[str, Any]
# The schema that a migration starts from -> the function that makes it the next one. A schema that
# has been released stays readable: `schema_<n>.pt` in `tests/training/checkpoints` is one of each.
MIGRATIONS: dict[int, Callable[[Content], Content]] = {}


def migrate(content: Content) -> Content:
    """Return a checkpoint's content in the schema of this version.

    A checkpoint of something else than a run of this library is returned as it is.

    Raises:
        CheckpointError: for a schema that this version does not read.
    """
    own = content.get("mmattn")
    if not isinstance(own, dict) or "schema" not in own:
        return content
    found = own["schema"]
    check_schema(found)
    for step in range(found, SCHEMA):
        content = MIGRATIONS[step](content)
        content = {**content, "mmattn": {**content["mmattn"], "schema": step + 1}}
    return content


def check_schema(found: Any) -> None:
    """Raise CheckpointError for a schema that this version does not read, with the remedy."""
    if type(found) is not int or found < 1:
        raise CheckpointError(f"the checkpoint has schema {found!r}, which is no number from 1 on")
    if found > SCHEMA:
        raise CheckpointError(
            f"the checkpoint has schema {found}, of a newer version of mmattn; this one reads up "
            f"to {SCHEMA}: pip install -U mmattn"
        )
    missing = [step for step in range(found, SCHEMA) if step not in MIGRATIONS]
    if missing:
        raise CheckpointError(
            f"the checkpoint has schema {found}, which this version no longer reads: use the "
            "version that wrote it"
        )
