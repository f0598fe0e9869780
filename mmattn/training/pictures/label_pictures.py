"""What a classifier confuses, and whether it knows when it is right: drawn at each validation."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
from torch import Tensor, nn

from mmattn.files import write_whole
from mmattn.maps.png import save_png
from mmattn.metrics.label_metric import LabelMetric
from mmattn.tasks.classification import ClassificationTask
from mmattn.training.best_effort import BestEffort
from mmattn.training.loggers.media import Media
from mmattn.training.parts import classification_task
from mmattn.training.pictures.every_nth import EveryNth
from mmattn.training.pictures.file_names import file_names
from mmattn.training.pictures.label_figures import (
    Figure,
    answers,
    confusion_figure,
    figures,
    reliability_figure,
    risk_figure,
)

SHARE = 0.4  # of what one step may log; the decisions have the rest


class LabelPictures(L.Callback):
    """Draws the confusion matrix, the reliability diagram and the risk-coverage curve of each head.

    Of a head that gives one class: all three. Of one that scores its answers: the last two; of one
    that gives every word a class: the first. Of one that gives any number of classes: none.

    They are made of what the task's metrics hold, of all processes, so no example is seen again:
    callbacks' hooks run before the module's own, which resets its metrics. Every process takes part
    in gathering; rank 0 draws. Files go to `folder/<set>/step-…/`, with a folder a head where there
    are several: PNG pictures, and CSV files with the numbers they are drawn from. Logged are the
    pictures, and for every validation and test the figures of `label_figures.figures`.

    Args:
        folder: where the files go.
        every_n_validations: draw at every n-th validation; at none if None or 0.
        test: draw for the test sets.
    """

    def __init__(self, folder: str, *, every_n_validations: int | None = 1, test: bool = True):
        self.folder, self.test = Path(folder), test
        self._every = EveryNth(every_n_validations)
        self._media, self._effort = Media(SHARE), BestEffort()

    def state_dict(self) -> dict[str, Any]:
        """Return how many validations there were, so that a resumed run draws every n-th of all."""
        return {"validations": self._every.seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Count on from those of a checkpoint."""
        self._every.seen = state_dict["validations"]

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show the validation set, while the metrics still hold it."""
        if trainer.sanity_checking:
            return
        task = classification_task(pl_module)
        self._show(trainer, task, "val", task.val_scores, drawn=self._every.next())

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show every test set, while the metrics still hold them."""
        task = classification_task(pl_module)
        for i, scores in enumerate(task.test_scores):
            assert isinstance(scores, nn.ModuleDict)
            self._show(trainer, task, task.test_prefix(i), scores, drawn=self.test)

    def _show(
        self,
        trainer: L.Trainer,
        task: ClassificationTask,
        prefix: str,
        scores: nn.ModuleDict,
        *,
        drawn: bool,
    ) -> None:
        """Log the figures of every head; write and log its pictures on rank 0."""
        folders = file_names(list(scores)) if len(scores) > 1 else [""]
        for (head, metric), folder in zip(scores.items(), folders, strict=True):
            kind = task.classes[head].kind
            if kind == "multi":
                continue
            assert isinstance(metric, LabelMetric)
            name = prefix if len(scores) == 1 else f"{prefix}/{head}"
            rows = {column: value.cpu() for column, value in metric.examples().items()}
            self._log(task, name, head, rows)
            if drawn and trainer.is_global_zero:
                where = self.folder / file_names([prefix])[0] / f"step-{trainer.global_step:06d}"
                for figure in head_figures(task, head, rows):
                    self._write(figure, where / folder, name, trainer)

    def _log(self, task: ClassificationTask, name: str, head: str, rows: dict[str, Tensor]) -> None:
        answered = answers(task.classes[head].kind, rows, task.temperature.get(head))
        if answered is not None:  # of gathered examples: the same on every rank
            values = {f"{name}/{what}": value for what, value in figures(answered).items()}
            task.log_dict(values, sync_dist=True)

    def _write(self, figure: Figure, folder: Path, name: str, trainer: L.Trainer) -> None:
        with self._effort.at(folder):
            write_whole(folder / f"{figure.name}.csv", figure.csv())
            if figure.picture is not None:
                save_png(folder / f"{figure.name}.png", figure.picture)
        if figure.picture is not None:
            key, step = f"pictures/{name}/{figure.name}", trainer.global_step
            self._media.images(trainer.loggers, step, key, [figure.picture], [figure.caption])


def head_figures(task: ClassificationTask, head: str, rows: dict[str, Tensor]) -> Iterator[Figure]:
    """Yield the figures of a head, from what its metric keeps of the examples, on the CPU."""
    classes = task.classes[head]
    if classes.kind in ("single", "words"):
        predicted = rows["predicted"] if "predicted" in rows else rows["logits"].argmax(-1)
        yield confusion_figure(predicted, rows["targets"], classes.names)
    answered = answers(classes.kind, rows, task.temperature.get(head))
    if answered is not None:
        yield reliability_figure(answered)
        yield risk_figure(answered, head)
