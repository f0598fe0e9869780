"""One process at a time: a lock on an open file, which the system takes back from the dead."""

from typing import IO, Any

try:
    import fcntl
except ImportError:  # not POSIX
    fcntl = None


def lock(file: IO[Any]) -> None:
    """Wait until no other process has locked the file; closing it, or dying, lets the next one in.

    Where the system has no such locks processes are not kept apart.
    """
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX)
