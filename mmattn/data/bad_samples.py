"""What training does about samples that cannot be read: bounded, counted and reported."""

import csv
import logging
import os
from pathlib import Path
from typing import IO

import torch

from mmattn.data.file_lock import lock
from mmattn.data.stand_ins import Sizes
from mmattn.errors import ConfigError, DataError

log = logging.getLogger(__name__)
ON_BAD_SAMPLE = ("raise", "skip", "replace")
REPORT = "bad_images.csv"
COLUMNS = ("image", "reason")
UNREADABLE = (OSError, UnicodeError, csv.Error)  # what reading a report may raise


class BadSamples:
    """Which samples could not be read: one byte each, in memory shared with the workers.

    Setting a byte needs no lock, and counting samples, not readings, needs no other order of events
    than that they happened. The ranks of a run share no memory, so they count together by what
    stands in the report that all add to.

    Args:
        length: the number of samples of the set.
        max_fraction: the share of them, in [0, 1), that may be unreadable: on all ranks together,
            each sample once, since this was made.
        skip: leave them out of their batches; otherwise other samples stand in.
        report: a CSV file of names and reasons, to which each is added once; None keeps none.
        sizes: of the samples' texts, where none that is larger may stand in.

    Raises:
        ConfigError: `max_fraction` is out of its range.
    """

    def __init__(
        self,
        length: int,
        max_fraction: float,
        *,
        skip: bool = False,
        report: Path | None = None,
        sizes: Sizes | None = None,
    ):
        check_fraction(max_fraction)
        self._seen = torch.zeros(length, dtype=torch.bool).share_memory_()
        self._max_fraction = max_fraction
        self.skip, self.report, self.sizes = skip, report, sizes
        self._earlier = self._reported()

    @property
    def count(self) -> int:
        """How many samples could not be read so far, on all ranks that have the same report.

        Other ranks' samples do not count here where an earlier run has reported them too.
        """
        return max(int(self._seen.sum()), self._reported() - self._earlier)

    def add(self, index: int, key: str, error: DataError) -> None:
        """Note, log and report a bad sample. Raises `DataError` when they are too many."""
        if self._seen[index]:
            return
        self._seen[index] = True
        done = "left out" if self.skip else "replaced"
        name, reason = shown(key), shown(str(error))
        log.warning("%s the image %s, which cannot be read: %s", done, name, reason)
        if self.report is not None:
            _add_to(self.report, name, reason)
        count = self.count
        if count > self._max_fraction * len(self._seen):
            raise DataError(
                f"{count} of {len(self._seen)} images cannot be read, which is more than "
                f"data.loader.max_bad_fraction={self._max_fraction}: mend or remove the files "
                f"named in {self.report or 'the log'}, or allow more. The last one: {error}"
            ) from error

    def _reported(self) -> int:
        """Return how many samples stand in the report."""
        if self.report is None:
            return 0
        try:
            with self.report.open(newline="", encoding="utf-8") as file:
                return len(_names(file))
        except UNREADABLE:  # there is none yet
            return 0


def check_fraction(max_fraction: float) -> None:
    """Raise ConfigError for a share that is none, or would allow a set without a good sample."""
    if not 0 <= max_fraction < 1:
        raise ConfigError(f"data.loader.max_bad_fraction={max_fraction} must lie in [0, 1)")


def check_policy(on_bad_sample: str) -> None:
    """Raise ConfigError for a policy that is not known."""
    if on_bad_sample not in ON_BAD_SAMPLE:
        raise ConfigError(
            f"data.loader.on_bad_sample is {on_bad_sample!r}; choose {', '.join(ON_BAD_SAMPLE)}"
        )


def shown(text: str) -> str:
    """Return a text that any log and file takes: names of files may hold what is no text."""
    return text.encode("utf-8", "backslashreplace").decode()


def _add_to(report: Path, key: str, reason: str) -> None:
    """Add a line for `key` unless there is one; other ranks and workers may do so at once.

    A report that cannot be written is no reason to stop: the log has the same.
    """
    try:
        with report.open("a+", newline="", encoding="utf-8") as file:
            lock(file)
            rows = [(key, reason)] if file.seek(0, os.SEEK_END) else [COLUMNS, (key, reason)]
            file.seek(0)
            if key not in _names(file):
                csv.writer(file).writerows(rows)
    except UNREADABLE as error:
        log.warning("cannot add to %s: %s", report, error)


def _names(file: IO[str]) -> set[str]:
    """Return the names in a report, which is read from its start; its first row has the columns."""
    rows = csv.reader(file)
    next(rows, None)
    return {row[0] for row in rows if row}
