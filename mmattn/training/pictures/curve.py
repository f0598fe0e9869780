"""The training curve of a run as one picture: losses on the left, validation on the right."""

from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mmattn.maps.png import save_png
from mmattn.training.best_effort import BestEffort

Series = dict[str, list[tuple[int, float]]]  # name -> (step, value), in the order of the steps


class TrainingCurve(L.Callback):
    """Draws loss and validation scores over the steps to `path` after each validation.

    A resumed run goes on with the curves of its checkpoint.

    Args:
        path: the PNG file.
        scores: metrics for the right-hand side.
    """

    def __init__(self, path: str, scores: list[str]):
        self.path, self.scores = Path(path), scores
        self._series: Series = {name: [] for name in ("train/loss", "val/loss", *scores)}
        self._disk = BestEffort()

    def state_dict(self) -> dict[str, Any]:
        """Return the curves so far, as plain numbers."""
        return {"series": {name: list(points) for name, points in self._series.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the curves of a checkpoint; scores that are not drawn here are left out."""
        for name in self._series:
            self._series[name] = [(step, y) for step, y in state_dict["series"].get(name, [])]

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Note the training loss as often as the loggers do."""
        if trainer.global_step % getattr(trainer, "log_every_n_steps") == 0:  # noqa: B009
            self._note(trainer, ["train/loss"])

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note what the validation found, and draw."""
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        self._note(trainer, ["val/loss", *self.scores])
        with self._disk.at(self.path):
            save_png(self.path, draw(self._series, self.scores))

    def _note(self, trainer: L.Trainer, names: list[str]) -> None:
        for name in names:
            if name in trainer.callback_metrics:
                point = (trainer.global_step, float(trainer.callback_metrics[name]))
                # Batches that accumulate gradients share a step: the last one's loss stays.
                series = self._series[name]
                if series and series[-1][0] == point[0]:
                    series.pop()
                series.append(point)


def draw(series: Series, scores: list[str]) -> np.ndarray:
    """Return the picture, uint8 RGB [H, W, 3]: losses on a logarithmic axis, scores beside."""
    figure = Figure(figsize=(9, 3.4), dpi=110, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    losses, right = figure.subplots(1, 2)
    _plot(losses, {name: points for name, points in series.items() if name.endswith("/loss")})
    if losses.lines:
        losses.set_yscale("log")
    losses.set_title("loss", loc="left")
    _plot(right, {name: series[name] for name in scores})
    right.set_title("validation", loc="left")
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])


def _plot(axes, series: Series) -> None:
    for name, points in series.items():
        if points:
            steps, values = zip(*points, strict=True)
            axes.plot(steps, values, label=name, marker="." if len(points) < 30 else None)
    axes.set_xlabel("step")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(frameon=False)
