"""What a training can do without: files that only show how it goes."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmattn.errors import DataError

log = logging.getLogger(__name__)


class BestEffort:
    """Blocks that may fail on a disk without ending a run of days; the first one is warned of."""

    def __init__(self):
        self._warned = False

    @contextmanager
    def at(self, path: Path) -> Iterator[None]:
        """Leave the block at a disk error, and go on after it; `path` is what is then missing.

        That is a disk that is full, read-only or gone (OSError), or an image that can no longer be
        read from it (DataError). Whatever else goes wrong is raised: it is a mistake.
        """
        try:
            yield
        except (OSError, DataError) as error:
            if not self._warned:
                self._warned = True
                log.warning(
                    "%s is not written (%s: %s); training goes on, and this is said once",
                    *(path, type(error).__name__, error),
                )
