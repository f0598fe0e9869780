"""Checkpoints that say exactly where to go on, whenever they are written.

Lightning writes what its counters say at that moment, and reads it back a little differently. Three
things are lost where a checkpoint is written at the end of a training batch: the figures of this
batch, which are logged only afterwards; the validation that follows it; and the gradients that are
accumulated but not yet applied. What is here changes a checkpoint while it is written, so that a
run that goes on from it logs, validates and learns what the other one would have.

Where a run had nothing left to learn, Lightning does not enter its loop, and leaves undone what
would have come after the last step. That is done here, too, in the place of that loop: there the
model is still on its device and in its parts, and in `on_fit_end` it no longer is.
"""

import logging
from functools import partial
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping, WeightAveraging
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason
from lightning.pytorch.loops.fit_loop import _FitLoop
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop

from mmattn.training.checkpoints.moments import validation_follows
from mmattn.training.loggers.continued_logs import STATE, run_ids
from mmattn.training.loggers.metrics_file import MetricsFile
from mmattn.training.parts import callbacks_of

log = logging.getLogger(__name__)


class ResumePoint(L.Callback):
    """Makes the checkpoints of a run exact.

    It comes first of all callbacks: before those that log, and before `Preemption`, which changes
    once more what it has written into a checkpoint.

    A checkpoint between two optimiser steps of gradient accumulation goes back to the first of
    them: what was accumulated is computed again, on every rank, instead of being kept.

    Its state is `rows`, how many rows `metrics.csv` has that come before the checkpoint (None
    without that logger); `unlogged`, the figures of the last batch where they were not logged yet
    (a step and values); whether it `validates` next; and the `run_ids`: plain numbers and strings.
    """

    def __init__(self):
        self._rows_before_window: int | None = None
        self._unlogged: dict[str, Any] | None = None
        self._validates = self._trains = False

    @property
    def state_key(self) -> str:
        """What a checkpoint knows this callback by."""
        return STATE

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Put `_fit` in the place of Lightning's loop over epochs, which it calls."""
        if stage == "fit":
            setattr(trainer.fit_loop, "run", partial(self._fit, trainer, pl_module))  # noqa: B010

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log what the run that wrote the checkpoint had not logged yet; Lightning does the rest.

        In `on_fit_start` a checkpoint that is divided among ranks is not read yet.
        """
        self._trains, self._validates = True, False
        self._log_unlogged(trainer)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Note where the file of figures stood before gradients accumulate."""
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self._rows_before_window = rows_of(trainer)

    def _fit(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Train as Lightning does; where nothing is left to learn, do what is left to do."""
        self._trains = False
        if trainer.ckpt_path and stopped_early(trainer):
            log.info("early stopping had ended this run: it does not train on")
            trainer.should_stop = True
        loop = trainer.fit_loop
        type(loop).run(loop)
        if not self._trains:
            self._end(trainer, pl_module)

    def _end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log, validate and put averaged weights (EMA) in place, as after a last step."""
        self._log_unlogged(trainer)
        if self._validates:
            self._validates = False
            trainer.validating = True
            trainer.fit_loop.epoch_loop.val_loop.run()
            trainer.training = True
        leave_epoch(trainer.fit_loop)
        for callback in callbacks_of(trainer):
            if isinstance(callback, WeightAveraging):
                callback.on_train_end(trainer, pl_module)

    def _log_unlogged(self, trainer: L.Trainer) -> None:
        unlogged, self._unlogged = self._unlogged, None
        if unlogged is None:
            return
        for logger in trainer.loggers:
            logger.log_metrics(unlogged["values"], unlogged["step"])
            logger.save()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what is still to be logged and done."""
        self._unlogged, self._validates = state_dict["unlogged"], state_dict["validates"]

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Change a checkpoint that is about to be written to say where to go on."""
        state = {"rows": rows_of(trainer), "unlogged": None, "validates": False}
        state |= run_ids(trainer.loggers)
        pending = pending_batches(trainer)
        if pending:
            go_back(trainer, checkpoint, pending)
            state["rows"] = self._rows_before_window
        elif in_batch_end(trainer.fit_loop.epoch_loop):
            state["unlogged"] = unlogged_figures(trainer)
            if validation_follows(trainer):
                go_on_with_validation(checkpoint)
                state["validates"] = True
        elif in_epoch_end(trainer.fit_loop):
            go_back_to_last_batch(checkpoint)
        checkpoint["callbacks"][STATE] = state


def stopped_early(trainer: L.Trainer) -> bool:
    """Whether early stopping has ended this run: it keeps why, and Lightning keeps nothing of it.

    Only where the run that goes on still has the callback: without it it is to train on.
    """
    stopping = (each for each in callbacks_of(trainer) if isinstance(each, EarlyStopping))
    return any(each.stopping_reason != EarlyStoppingReason.NOT_STOPPED for each in stopping)


def leave_epoch(loop: _FitLoop) -> None:
    """Count the last step and its epoch as over; tests are logged at the step behind it."""
    progress: Any = loop.epoch_progress
    if progress.total.processed < progress.total.started:
        loop.epoch_loop._batches_that_stepped += 1
        progress.increment_processed()
        progress.increment_completed()


def rows_of(trainer: L.Trainer) -> int | None:
    """Return how many rows this run's `metrics.csv` has; None without the logger."""
    files = [logger for logger in trainer.loggers if isinstance(logger, MetricsFile)]
    return files[0].rows if files else None


def in_batch_end(loop: _TrainingEpochLoop) -> bool:
    """Whether the hooks at a training batch's end are running: its figures are not logged yet."""
    total: Any = loop.batch_progress.total
    return total.completed == total.processed - 1


def in_epoch_end(loop: _FitLoop) -> bool:
    """Whether the hooks at a training epoch's end are running."""
    total: Any = loop.epoch_progress.total
    return total.completed == total.processed - 1


def pending_batches(trainer: L.Trainer) -> int:
    """Return how many batches have added to gradients that no optimiser step has used yet."""
    loop = trainer.fit_loop.epoch_loop
    progress: Any = loop.batch_progress.current
    if progress.processed == 0 or loop._num_ready_batches_reached():
        return 0
    return progress.processed % trainer.accumulate_grad_batches


def unlogged_figures(trainer: L.Trainer) -> dict[str, Any] | None:
    """Return the step and the figures that Lightning will log when the batch's hooks are over."""
    connector = trainer._logger_connector
    if not connector.should_update_logs:
        return None
    values = {name: float(value) for name, value in connector.metrics["log"].items()}
    values.setdefault("epoch", trainer.current_epoch)
    return {"step": trainer.fit_loop.epoch_loop._batches_that_stepped, "values": values}


def go_on_with_validation(checkpoint: dict[str, Any]) -> None:
    """Let the checkpoint look like one from the first moment of the validation.

    Left as it is, Lightning takes the validation for done.
    """
    loops = checkpoint["loops"]["fit_loop"]
    training = loops["epoch_loop.batch_progress"]
    validation = loops["epoch_loop.val_loop.batch_progress"]
    for counters in (training["total"], training["current"]):
        counters["completed"] = counters["processed"]
    for counters in (validation["total"], validation["current"]):
        done = counters["completed"] if counters is validation["total"] else 0
        counters.update(ready=done + 1, started=done + 1, processed=done, completed=done)
    validation["is_last_batch"] = False


def begin_validation_again(checkpoint: dict[str, Any]) -> None:
    """Let a checkpoint from the middle of a validation look like one from its first moment.

    Lightning knows a validation that was given up by a batch that was begun and did not end.
    """
    progress = checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"]
    done = progress["total"]["completed"] - progress["current"]["completed"]
    for name, before in (("total", done), ("current", 0)):
        progress[name] |= dict.fromkeys(("ready", "started"), before + 1)
        progress[name] |= dict.fromkeys(("processed", "completed"), before)
    progress["is_last_batch"] = False
    state = checkpoint["callbacks"].get(STATE)  # of `ResumePoint`, where a run has it
    if state is not None:
        state["validates"] = True


def pass_over_validation(checkpoint: dict[str, Any]) -> None:
    """Let a checkpoint from between a step whose validation is done and the next be exact.

    A run that goes on from it passes over the end of that step, and counts it, once more.
    """
    checkpoint["loops"]["fit_loop"]["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1


def go_back_to_last_batch(checkpoint: dict[str, Any]) -> None:
    """Let a checkpoint from the hooks at an epoch's end look like one from its last batch's.

    Left as it is, Lightning goes through an empty epoch where `max_steps` is set.
    """
    loops = checkpoint["loops"]["fit_loop"]
    for which in ("total", "current"):
        loops["epoch_progress"][which]["processed"] -= 1
        loops["epoch_loop.batch_progress"][which]["completed"] -= 1
    loops["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1


def go_back(trainer: L.Trainer, checkpoint: dict[str, Any], batches: int) -> None:
    """Let the checkpoint stand so many batches, of which no weight has learned, before this one."""
    loops = checkpoint["loops"]["fit_loop"]
    training = loops["epoch_loop.batch_progress"]
    for counters in (training["total"], training["current"]):
        counters.update(dict.fromkeys(counters, counters["processed"] - batches))
    training["is_last_batch"] = False
    if validated_at(trainer, training["total"]["ready"], training["current"]["ready"]):
        # Lightning will pass by this validation without a word, and count it as a step.
        loops["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1
    positions = loops["state_dict"].get("combined_loader", [])
    data = checkpoint.get(type(getattr(trainer, "datamodule")).__qualname__, {})  # noqa: B009
    for position in [*positions, data]:
        if "delivered" in position:
            position["delivered"] -= batches


def validated_at(trainer: L.Trainer, total: int, current: int) -> bool:
    """Whether Lightning would validate after so many batches in all, and in this epoch."""
    if not trainer.fit_loop.epoch_loop._should_check_val_epoch():
        return False
    every = trainer.val_check_batch
    batches = total if trainer.check_val_every_n_epoch is None else current
    return every is not None and every != float("inf") and batches % every == 0
