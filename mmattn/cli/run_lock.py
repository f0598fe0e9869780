"""One run at a time in a run directory.

The lock is the operating system's, on the file `.lock`, so it ends with the process that holds it,
however that ends; what stands in the file is who holds it. On a network file system the server
keeps it (NFS 4, Lustre mounted with `flock`), also between machines; on one without locks the run
goes on with a warning.
"""

import json
import logging
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from mmattn.data.file_lock import HELD, fcntl, warn_of_no_lock
from mmattn.errors import ConfigError

log = logging.getLogger(__name__)
# What launchers tell a process of its place: 0 in each of them for rank 0.
PLACES = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a run directory while the block runs; the ranks of a run share it.

    Raises:
        ConfigError: where another run holds it, naming its machine, its process and since when.
    """
    if fcntl is None or other_rank():
        yield
        return
    try:
        file = os.fdopen(os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644), "r+")
    except OSError:  # said better where the folder is tried
        yield
        return
    with file:
        _take(file, folder)
        try:
            yield
        finally:
            # The file stays: who waits for a file that was removed would hold a lock on nothing.
            file.seek(0)
            file.truncate()


def other_rank() -> bool:
    """Whether this is a process of a run whose rank 0 is another one."""
    return any(os.environ.get(name, "0") != "0" for name in PLACES)


def _take(file: IO[str], folder: Path) -> None:
    """Lock the file and write into it who does."""
    try:
        # Of this process alone: a lock of flock() would pass to those that read its data.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in HELD:
            raise ConfigError(_held(folder, file.read())) from None
        warn_of_no_lock(folder, error.strerror)
    earlier = file.read()
    if earlier:
        log.warning("%s was in use by %s, which ended without a word", folder, _owner(earlier))
    file.seek(0)
    file.truncate()
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    json.dump({"host": platform.node(), "pid": os.getpid(), "since": since}, file)
    file.flush()


def _held(folder: Path, content: str) -> str:
    return (
        f"the run directory {folder} is in use by {_owner(content)}: wait for that run, or choose "
        "another directory with hydra.run.dir=…"
    )


def _owner(content: str) -> str:
    """Say who wrote a lock file; of one that is just being written, that it is somebody."""
    try:
        owner = json.loads(content)
        return f"process {owner['pid']} on {owner['host']} since {owner['since']}"
    except (ValueError, KeyError, TypeError):
        return "another process"
