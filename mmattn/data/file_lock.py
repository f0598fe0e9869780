"""One process at a time: a lock on an open file, which the system takes back from the dead."""

import logging
from typing import IO, Any

try:
    import fcntl
except ImportError:  # not POSIX
    fcntl = None

log = logging.getLogger(__name__)


def lock(file: IO[Any], holder: str = "another process") -> None:
    """Wait until no other process has locked the file; closing it, or dying, lets the next one in.

    Where the system has no such locks processes are not kept apart. `holder` says in the log who
    is waited for.
    """
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.info("waiting for %s (%s)", holder, file.name)
        fcntl.flock(file, fcntl.LOCK_EX)
