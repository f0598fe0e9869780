"""How long training took and how many captions, or examples, a second it learned from."""

import time
from typing import Any

import lightning as L
import torch

from mmattn.batch import CaptionBatch, LabelBatch


class Throughput(L.Callback):
    """Measures the wall-clock time of `fit` and the captions per second of its training batches.

    `seconds` is all of `fit`, validation included. Captions per second leave validation and
    pictures out, also the first `skip` batches (warm-up) where there are more, and count all ranks.
    A resumed run goes on counting from its checkpoint; what was lost behind it does not count.

    Args:
        skip: number of batches at the start that do not count.
        unit: what a row of a batch is called.
    """

    def __init__(self, skip: int = 5, unit: str = "captions"):
        self.skip, self.unit = skip, unit
        self.seconds = 0.0
        self._batches, self._captions, self._training = 0, 0, 0.0
        self._started = self._resumed = self._before = 0.0

    def state_dict(self) -> dict[str, Any]:
        """Return what was counted so far, as plain numbers."""
        return {
            "seconds": self._before + time.perf_counter() - self._started,
            "batches": self._batches,
            "captions": self._captions,
            "training": self._training,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self._before, self._batches = state_dict["seconds"], state_dict["batches"]
        self._captions, self._training = state_dict["captions"], state_dict["training"]

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._started = self._resumed = time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: object,
        batch: CaptionBatch | LabelBatch,
        batch_idx: int,
    ) -> None:
        """Add one batch, with the time since the last one: reading it counts."""
        now = time.perf_counter()
        if self._batches == self.skip:
            self._captions, self._training = 0, 0.0
        self._batches += 1
        self._training += now - self._resumed
        self._captions += int(batch.valid.any(-1).sum())
        self._resumed = now

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave the validation out of the training time."""
        self._resumed = time.perf_counter()

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop the clock."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds = self._before + time.perf_counter() - self._started
        self._ranks = trainer.world_size

    def results(self) -> dict[str, float]:
        """Return `train/seconds` and `train/<unit>_per_second`; empty before `fit`."""
        if not self.seconds:
            return {}
        rate = self._captions * self._ranks / self._training if self._training else 0.0
        return {"train/seconds": self.seconds, f"train/{self.unit}_per_second": rate}
