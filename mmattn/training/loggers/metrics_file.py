"""`metrics.csv`: every logged value of a run, one curve however often the run was resumed."""

import csv
import io
import logging
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter

from mmattn.files import write_whole

log = logging.getLogger(__name__)


class MetricsFile(CSVLogger):
    """Lightning's CSV logger, but that it goes on with a file that is there.

    The file may be killed at any time: it is replaced whole where it gets a new column, and a row
    that was written in part is behind every checkpoint, so `go_on` drops it.

    The arguments are those of Lightning's `CSVLogger`.
    """

    @property
    @rank_zero_experiment
    def experiment(self) -> "_Writer":
        """The writer, opened when it is first used."""
        if self._experiment is None:
            self._experiment = _Writer(self.log_dir)
        return self._experiment  # type: ignore[return-value]

    @property
    def rows(self) -> int:
        """How many rows the file has, with those that are still to be written."""
        return self.experiment.rows if rank_zero_only.rank == 0 else 0  # type: ignore[attr-defined]

    @rank_zero_only
    def go_on(self, rows: int | None, step: int) -> None:
        """Keep the first `rows` rows of the file; those before `step` where that is not known.

        The others are of steps that come again. Comes before the first use of the logger.
        """
        path = Path(self.log_dir) / _Writer.NAME_METRICS_FILE
        names, found = read_rows(path)
        kept = [row for row in found if _step(row) < step] if rows is None else found[:rows]
        if rows is not None and len(kept) < rows:
            log.warning(
                "%s has %d rows, and %d when the checkpoint was written: the curves have a gap",
                *(path, len(kept), rows),
            )
        if len(kept) < len(found):
            write_rows(path, names, kept)


class _Writer(ExperimentWriter):
    """Appends rows to `metrics.csv`."""

    def __init__(self, log_dir: str):
        super().__init__(log_dir)
        names, found = read_rows(Path(self.metrics_file_path))
        self.metrics_keys, self.rows = names, len(found)

    def log_metrics(self, metrics_dict: dict[str, Any], step: int | None = None) -> None:
        """Add a row."""
        super().log_metrics(metrics_dict, step)
        self.rows += 1

    def _check_log_dir_exists(self) -> None:
        """Leave the file where it is; Lightning would delete it."""

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        path = Path(self.metrics_file_path)
        write_rows(path, fieldnames, read_rows(path)[1])


def read_rows(path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the names of the columns, and the rows; nothing where there is no file."""
    if not path.exists():
        return [], []
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
        return list(reader.fieldnames or []), rows


def write_rows(path: Path, names: list[str], rows: list[dict[str, Any]]) -> None:
    """Write the file, whole."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, names, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue().encode())


def _step(row: dict[str, Any]) -> float:
    """Return a row's step; that of a row without one is behind all others."""
    try:
        return float(int(row.get("step") or ""))
    except ValueError:
        return float("inf")
