"""One process at a time: a lock on an open file, which the system takes back from the dead."""

import errno
import logging
from functools import cache
from pathlib import Path
from typing import IO, Any

fcntl: Any
try:
    import fcntl
except ImportError:  # not POSIX
    fcntl = None

log = logging.getLogger(__name__)
HELD = (errno.EACCES, errno.EAGAIN)  # another process has the lock


def lock(file: IO[Any], holder: str = "another process") -> bool:
    """Wait until no other process has locked the file; closing it, or dying, lets the next one in.

    Return whether processes are kept apart. They are not where the system has no such locks, or the
    file system has none (some network ones), which is warned of. `holder` says in the log who is
    waited for.
    """
    if fcntl is None:
        return False
    try:
        _take(file, holder)
    except OSError as error:
        warn_of_no_lock(Path(file.name).parent, error.strerror)
        return False
    return True


def _take(file: IO[Any], holder: str) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in HELD:
            raise
        log.info("waiting for %s (%s)", holder, file.name)
        fcntl.flock(file, fcntl.LOCK_EX)


@cache
def warn_of_no_lock(folder: Path, reason: str | None) -> None:
    """Say, once in a process, that the files of a folder cannot be locked."""
    log.warning("%s cannot be locked (%s): keep other runs out of it", folder, reason)
