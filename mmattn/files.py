"""Files that are written whole or not at all."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_whole(path: str | Path, data: bytes) -> None:
    """Write a file; makes its folder if needed. A reader never sees half of it."""
    with written_whole(path) as unfinished:
        unfinished.write_bytes(data)


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Give an empty file to write to, which becomes `path` if no error was raised.

    It has another name in the same folder, which is made if needed, and is then renamed, so a
    reader, or a run that was killed, never sees half of it. Whatever writes it, it may be read by
    whom any file of this process may be read by.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        unfinished.touch()
        mode = unfinished.stat().st_mode
        yield unfinished
        unfinished.chmod(mode)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
