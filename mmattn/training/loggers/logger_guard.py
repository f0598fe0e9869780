"""Loggers that cannot stop a run, nor slow it down: whatever they raise is warned of once.

Lightning calls its loggers unguarded, and what they log to may be away, full or hanging. A guard
goes before the methods of a logger that exists, so that it stays an instance of its class.
"""

import functools
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import lightning as L
from lightning.fabric.loggers.logger import _DummyExperiment
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.logger import DummyLogger

from mmattn.errors import one_line
from mmattn.training.checkpoints.moments import is_trial
from mmattn.training.loggers.call_queue import CallQueue

log = logging.getLogger(__name__)
# All that Lightning, our callbacks and our users call of a logger.
METHODS = (
    *("log_hyperparams", "log_metrics", "log_graph", "log_image", "log_images", "log_text"),
    *("log_table", "log_audio", "log_video", "save", "after_save_checkpoint", "finalize"),
)
# They write files and nothing else; a row that is logged is there when a run is killed.
LOCAL = (CSVLogger, TensorBoardLogger)


class LoggerGuard:
    """Hands a logger's calls on to it; those of a service are done in a thread of their own.

    Args:
        logger: whose methods are replaced.
        timeout: seconds that training waits for it at its start, at its end, and where it copies a
            checkpoint, which may be gone later.
    """

    def __init__(self, logger: Logger, timeout: float):
        self.logger, self.timeout = logger, timeout
        self._patience = timeout  # at the start and at the end
        self._queue = None if isinstance(logger, LOCAL) else CallQueue()
        self._said: set[str] = set()
        self._late = False  # it once took longer than it may
        self._over = False  # whatever still comes of it is known already
        for name in METHODS:
            of_class = getattr(type(logger), name, None)
            if of_class is not None and of_class is not getattr(Logger, name, None):
                setattr(logger, name, self._guarded(getattr(logger, name), name))
        self._open_experiment = guard_experiment(logger, self._say)

    def start(self, values: Mapping[str, Any]) -> bool:
        """Begin what it logs to and hand it the configuration; whether it is there."""
        begun: list[bool] = []

        def begin() -> None:
            self._begin()
            begun.append(True)
            self.logger.log_hyperparams(dict(values))

        self._wait(lambda: self._try(begin, "could not begin"), self._patience)
        return bool(begun)

    def end(self, failed: bool) -> None:
        """Wait until all that was logged is written, for `timeout` seconds at most.

        Guards of services that want to know say there whether the run has `failed`.
        """
        self._wait(lambda: None, self._patience)

    def _begin(self) -> None:
        self._open_experiment()

    def _guarded(self, method: Callable[..., Any], name: str) -> Callable[..., None]:
        copies = name == "after_save_checkpoint"

        @functools.wraps(method)
        def guarded(*args: Any, **kwargs: Any) -> None:
            call = functools.partial(self._try, functools.partial(method, *args, **kwargs))
            if self._queue is None or self._queue.inside:
                call()
            elif copies and getattr(self.logger, "_log_model", True) and not self._late:
                self._wait(call, self.timeout)
            elif not self._queue.put(call):
                self._say("is slower than training: what it has no time for is left out")

        return guarded

    def _wait(self, call: Callable[[], None], seconds: float) -> bool:
        """Do a call here or in the thread, and wait for it; whether it has ended."""
        if self._queue is None or self._queue.inside:
            call()
            return True
        done = self._queue.wait(call, seconds)
        if not done:
            self._late = True
            self._say(f"did not answer in {seconds:g} s")
        return done

    def _try(self, call: Callable[[], Any], what: str = "could not log") -> None:
        try:
            call()
        except Exception as error:  # whatever a service or its client may raise
            if self._recovers(error):
                self._try(call, what)
            else:
                self._say(f"{what} ({type(error).__name__}: {one_line(error)})")

    def _recovers(self, error: Exception) -> bool:
        """Whether what failed is worth another try."""
        return False

    def _say(self, what: str) -> None:
        """Warn, once of each kind of trouble."""
        kind = what.partition(" (")[0]
        if kind not in self._said and not self._over:
            self._said.add(kind)
            log.warning(
                "%s %s; training goes on, its figures are in metrics.csv, and this is said once",
                *(type(self.logger).__name__, what),
            )


def guard_experiment(logger: Logger, say: Callable[[str], None]) -> Callable[[], Any]:
    """Let a logger's `experiment` never raise; return how to open it as before, files and all.

    Where it cannot be had it is one that takes everything and does nothing, as in processes that
    do not log. A property stands in the class, so the logger gets a class of its own below its own.
    """
    kind = type(logger)

    def open_experiment() -> Any:
        prop = getattr(kind, "experiment", None)
        return prop.__get__(logger, kind) if prop is not None else _DummyExperiment()

    def experiment(self: Logger) -> Any:
        try:
            return open_experiment()
        except Exception as error:  # as above
            say(f"could not log ({type(error).__name__}: {one_line(error)})")
            return _DummyExperiment()

    named = {"experiment": property(experiment), "__module__": kind.__module__}
    logger.__class__ = type(kind.__name__, (kind,), named)
    return open_experiment


@contextmanager
def guarded_loggers(
    trainer: L.Trainer, values: Mapping[str, Any], timeout: float
) -> Iterator[list[LoggerGuard]]:
    """Guard a trainer's loggers, begin and end them.

    Those that cannot begin are taken from the trainer. An open W&B run would take the figures of a
    sweep's next job as well, so all end with the block.

    Args:
        trainer: whose loggers have not begun.
        values: the configuration, for every logger.
        timeout: seconds, see `LoggerGuard`.
    """
    # The first process logs for all; a run that only tries whether it runs has no loggers.
    if not trainer.is_global_zero or is_trial(trainer):
        yield []
        return
    guards = [guard_of(logger, timeout) for logger in trainer.loggers]
    begun = [guard.logger for guard in guards if guard.start(values)]
    # Callbacks of Lightning's refuse to run without any: one that does nothing stands in.
    trainer.loggers = [DummyLogger()] if guards and not begun else begun
    failed = True
    try:
        yield guards
        failed = False
    finally:
        for guard in guards:
            guard.end(failed)


def guard_of(logger: Logger, timeout: float) -> LoggerGuard:
    """Return the guard that fits a logger."""
    if isinstance(logger, WandbLogger):
        from mmattn.training.loggers.wandb_guard import WandbGuard  # wandb: only where it is used

        return WandbGuard(logger, timeout)
    return LoggerGuard(logger, timeout)
