"""A run that goes on in its own folder goes on with its own curves, in every logger."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from mmattn.training.loggers.metrics_file import MetricsFile

STATE = "ResumePoint"  # the entry of a checkpoint's callbacks that says where the loggers were


@dataclass
class WandbRun:
    """A run of W&B: its `id`, and how often it was logged to, the calls that wait included."""

    id: str
    step: int = 0


# What the guards of these loggers know. W&B would ask its service, which may hang or be gone, and
# which has not heard yet of what waits for its turn.
WANDB_RUNS: WeakKeyDictionary[WandbLogger, WandbRun] = WeakKeyDictionary()


def run_ids(loggers: Sequence[Logger]) -> dict[str, Any]:
    """Return what the loggers' own runs are known by, as a checkpoint keeps it.

    `wandb` is the id of W&B's run and `wandb_step` how often it was logged to.
    """
    for logger in loggers if rank_zero_only.rank == 0 else []:  # type: ignore[attr-defined]
        if isinstance(logger, WandbLogger) and logger in WANDB_RUNS:
            run = WANDB_RUNS[logger]
            return {"wandb": run.id, "wandb_step": run.step}
    return {}


def go_on_logging(loggers: Sequence[Logger], checkpoint: dict[str, Any]) -> None:
    """Let loggers that are not open yet go on with what they had when a checkpoint was written.

    Args:
        loggers: of the run that goes on.
        checkpoint: its content; one without a `ResumePoint` tells less.
    """
    saved = checkpoint["callbacks"].get(STATE, {})
    step = int(checkpoint["global_step"])
    for logger in loggers:
        if isinstance(logger, MetricsFile):
            logger.go_on(saved.get("rows"), step)
        elif isinstance(logger, WandbLogger) and "wandb" in saved:
            same_wandb_run(logger, saved["wandb"], saved["wandb_step"])
        elif isinstance(logger, TensorBoardLogger):
            # What was drawn of this very step comes either before the checkpoint or again.
            logger._kwargs.setdefault("purge_step", step + 1)


def same_wandb_run(logger: WandbLogger, run_id: str, step: int) -> None:
    """Let a W&B logger go on with a run, unless its configuration names another.

    W&B drops what is logged at a lower step than before, and offline it does not know where it was:
    so the logger's guard tells it how often the run had been logged to. The figures' own axis is
    `trainer/global_step`; what the run had logged after the checkpoint is drawn twice on it, with
    the same values.
    """
    if logger.version not in (None, run_id):
        return
    logger._wandb_init["id"] = logger._id = run_id
    WANDB_RUNS[logger] = WandbRun(run_id, step)
