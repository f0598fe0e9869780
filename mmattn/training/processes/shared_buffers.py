"""Running statistics that every rank measures with, so that a resumed run measures the same."""

from collections.abc import Iterable
from typing import Any

import lightning as L
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, distributed, nn

from mmattn.training.processes.strategies import FSDP
from mmattn.training.running_statistics import statistics_of


class SharedBuffers(L.Callback):
    """Gives every rank the buffers of rank 0, such as a batch norm's statistics, for validation.

    DDP does so in training, but not in the first step after a validation. So each rank would
    measure its share of the examples with statistics of its own, which no checkpoint holds: it has
    those of rank 0. FSDP leaves buffers alone, so there they are shared before each batch.
    """

    def __init__(self):
        self._statistics: list[Tensor] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Find what a batch changes besides gradients."""
        divided = trainer.world_size > 1 and isinstance(trainer.strategy, FSDP)
        self._statistics = statistics_of(pl_module.modules()) if divided else []

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Go on from the statistics that a checkpoint would hold."""
        share(self._statistics)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Share the buffers that the training goes on with."""
        self._share(trainer, pl_module)

    def on_validation_batch_start(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Share those of averaged weights (EMA), which are in place by now."""
        if batch_idx == dataloader_idx == 0:
            self._share(trainer, pl_module)

    def _share(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.world_size > 1 and isinstance(trainer.strategy, DDPStrategy | FSDP):
            share_buffers(pl_module)


def share_buffers(module: nn.Module) -> None:
    """Overwrite a module's buffers of real numbers with those of rank 0. All ranks call it."""
    share(buffer for buffer in module.buffers() if buffer.is_floating_point())


def share(tensors: Iterable[Tensor]) -> None:
    """Overwrite tensors with those of rank 0. All ranks call it."""
    for tensor in tensors:
        distributed.broadcast(tensor, 0)
