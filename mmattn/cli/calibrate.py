"""What the run of a classifier does before it writes its results: it learns how sure it may be."""

import logging
from itertools import islice
from pathlib import Path

import lightning as L

from mmattn.data.split_module import SplitDataModule
from mmattn.errors import UserError
from mmattn.tasks.classification import ClassificationTask
from mmattn.tasks.task import Task
from mmattn.training.checkpoints.finding import load_weights
from mmattn.training.temperatures import error_figure, fit_temperatures, temperature_figure

log = logging.getLogger(__name__)


def calibrate(
    trainer: L.Trainer, task: Task, data: SplitDataModule, *, best: Path | None = None
) -> dict[str, float]:
    """Give a classifier the temperatures of its heads; return them and the errors that are left.

    Nothing, where the task is another one, or the run looks at no validation set. What hinders it
    is warned of and stops nothing, unless there are several processes.

    Args:
        trainer: that has trained.
        task: the run's.
        data: the run's.
        best: the checkpoint of the best weights, where the task does not have them yet.
    """
    if not isinstance(task, ClassificationTask) or not trainer.limit_val_batches:
        return {}
    try:
        if best is not None:
            load_weights(task, best)
        loader = data.val_dataloader()
        batches = islice(loader, batches_of(trainer.limit_val_batches, len(loader)))
        found = fit_temperatures(task, batches, trainer.strategy.root_device)
    except UserError as error:
        if trainer.world_size > 1:  # the other processes wait for this one's part
            raise
        log.warning("no temperature was fitted: %s", error)
        return {}
    task.temperature = {head: each.temperature for head, each in found.items()}
    heads, figures = list(task.classes), {}
    for head, each in found.items():
        figures[temperature_figure(head, heads)] = each.temperature
        figures[error_figure(head, heads)] = each.error
    return figures


def batches_of(limit: int | float, count: int) -> int:
    """Return how many of `count` batches a limit of Lightning means: a number, or a share."""
    return min(limit, count) if isinstance(limit, int) else int(limit * count)
