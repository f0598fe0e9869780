"""Files that are written whole or not at all."""

import uuid
from pathlib import Path


def write_whole(path: str | Path, data: bytes) -> None:
    """Write a file; makes its folder if needed.

    It is written under another name in the same folder and then renamed, so a reader, or a run that
    was killed, never sees half of it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        unfinished.write_bytes(data)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
