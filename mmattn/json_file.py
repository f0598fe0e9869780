"""Files that hold one JSON object: what models of any library are described by."""

import json
from pathlib import Path
from typing import Any

from mmattn.errors import CheckpointError


def read_json(path: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds.

    Raises:
        CheckpointError: where the file is missing, cannot be read, or holds something else.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: holds no JSON object, that is names and values in braces")
    return value
