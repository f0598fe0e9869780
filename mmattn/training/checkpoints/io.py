"""How a run writes its checkpoints: whole or not at all, and without keeping training waiting.

Lightning's own way is to write to the folder for temporary files and to move the file: where that
is another disk, a full disk leaves half a checkpoint under the final name. Here a checkpoint is
written beside its final name, brought to the disk, read back, and only then renamed.

In the background, one thread does everything in the order in which it was asked: it writes, then
makes `last.ckpt` point to what it wrote, then removes what is no longer wanted. Training waits only
while its tensors are copied, or where the disk is slower than the run writes checkpoints.
"""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
from lightning.fabric.plugins import CheckpointIO, TorchCheckpointIO

from mmattn.errors import CheckpointError, ConfigError, DiskError
from mmattn.training.checkpoints.content import read_checkpoint
from mmattn.training.checkpoints.files import link_checkpoint, remove_checkpoint
from mmattn.training.checkpoints.snapshot import snapshot
from mmattn.training.checkpoints.writing import write_checkpoint

log = logging.getLogger(__name__)


class CheckpointFiles(CheckpointIO):
    """Lightning's plugin for reading and writing checkpoints, on rank 0.

    A disk that refuses is warned of, and training goes on with the checkpoint before, until too
    many in a row could not be written. Whatever went wrong is raised by `wait`, which all methods
    but `link_checkpoint` and `remove_checkpoint` begin with, also where it went wrong in the
    background. What is asked for after a save that failed and before the next one is not done: it
    was about a checkpoint that is not there.

    Args:
        asynchronous: write in the background.
        max_failures: so many saves in a row may fail; after the last of them `wait` raises.
    """

    def __init__(self, *, asynchronous: bool = True, max_failures: int = 3):
        self.asynchronous, self.max_failures = asynchronous, max_failures
        self.last_failed = False
        self._failures = 0
        self._error: Exception | None = None
        self._thread: ThreadPoolExecutor | None = None

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write a checkpoint, after the one before is done; a disk that refuses is not raised here.

        Raises:
            CheckpointError: for what is no plain value, naming its place.
            DiskError: where too many saves in a row have failed before this one.
        """
        if storage_options is not None:
            raise TypeError("mmattn writes checkpoints without storage_options")
        self.wait()
        content = snapshot(checkpoint, copied=self.asynchronous)
        self._do(partial(self._write, content, Path(path)))

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Return a checkpoint's content on the CPU, after what is being written is done.

        Raises:
            CheckpointError: where it cannot be read, or is to be read without weights_only.
        """
        if weights_only is False:
            raise CheckpointError(f"{path}: reading it without weights_only could run code")
        self.wait()
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint with its manifest, once all that was asked for before is done."""
        self._do(partial(self._after_success, remove_checkpoint, Path(path)))

    def link_checkpoint(self, path: str | Path, link: str | Path) -> None:
        """Make `link` point to a checkpoint of its folder, once that is written."""
        self._do(partial(self._after_success, link_checkpoint, Path(path), Path(link)))

    def wait(self) -> None:
        """Return when everything that was asked for is done.

        Raises:
            DiskError: where too many saves in a row have failed.
            Exception: whatever else went wrong meanwhile.
        """
        if self._thread is not None:
            self._thread.shutdown()  # returns when all is done
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def teardown(self) -> None:
        """Wait, as Lightning's last act. Raises as `wait` does."""
        self.wait()

    def _do(self, job: Callable[[], None]) -> None:
        if not self.asynchronous:
            self._guarded(job)
            return
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._thread.submit(self._guarded, job)

    def _guarded(self, job: Callable[[], None]) -> None:
        """Do something, and keep for `wait` what it raises: there may be nobody to catch it."""
        try:
            job()
        except Exception as error:
            self.last_failed = True
            self._error = self._error or error

    def _write(self, content: dict[str, Any], path: Path) -> None:
        try:
            write_checkpoint(content, path)
        except OSError as error:
            self._failed(path, error)
        else:
            self.last_failed, self._failures = False, 0

    def _failed(self, path: Path, error: OSError) -> None:
        """Warn of a checkpoint that was not written. Raises DiskError after too many in a row."""
        self.last_failed = True
        self._failures += 1
        reason = error.strerror or type(error).__name__
        if self._failures >= self.max_failures:
            raise DiskError(
                f"{path} could not be written ({reason}), and neither could the "
                f"{self._failures - 1} before it: training stops, since it could not go on from "
                "here. Make room or mend the disk, then go on with ckpt_path=auto"
            ) from error
        log.warning(
            "%s was NOT WRITTEN (%s). Training goes on with the checkpoint before it; it stops "
            "when %d in a row could not be written, and this was number %d",
            *(path, reason, self.max_failures, self._failures),
        )

    def _after_success(self, job: Callable[..., None], *paths: Path) -> None:
        """Do something that rests on the last save; a disk that refuses is only warned of."""
        if self.last_failed:
            return
        try:
            job(*paths)
        except OSError as error:
            log.warning("%s: %s", paths[-1], error.strerror or type(error).__name__)


def files_of(trainer: L.Trainer, asynchronous: bool, max_failures: int) -> CheckpointFiles:
    """Return what reads and writes a trainer's checkpoints, which it gets here for the first time.

    Raises:
        ConfigError: for a trainer that has a plugin of the user's for it.
    """
    given = trainer.strategy.checkpoint_io
    if isinstance(given, CheckpointFiles):
        return given
    if type(given) is not TorchCheckpointIO:
        raise ConfigError(
            f"trainer.plugins has a {type(given).__name__}, and callbacks.checkpoint writes "
            "checkpoints in a way of its own: leave one of them out"
        )
    if getattr(trainer.strategy, "_save_distributed_checkpoint", False):
        raise ConfigError(
            "callbacks.checkpoint writes one file with all that the ranks have: set "
            "trainer.strategy.save_distributed_checkpoint=false"
        )
    files = CheckpointFiles(asynchronous=asynchronous, max_failures=max_failures)
    trainer.strategy.checkpoint_io = files
    return files


def wait_for(trainer: L.Trainer) -> None:
    """Return when the trainer's checkpoints are written, also those in the background.

    Raises:
        DiskError: where too many saves in a row have failed.
        Exception: whatever else went wrong meanwhile.
    """
    files = trainer.strategy.checkpoint_io
    if isinstance(files, CheckpointFiles):  # else Lightning's, which writes at once
        files.wait()


def finished(files: CheckpointFiles) -> tuple[bool, Exception | None]:
    """Wait; return whether the last save failed, and what there is to raise on every rank."""
    try:
        files.wait()
    except Exception as error:
        return files.last_failed, error
    return files.last_failed, None
