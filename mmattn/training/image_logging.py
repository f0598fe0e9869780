"""Pictures for whichever loggers a run has, on the trainer's step axis."""

from collections.abc import Sequence

import lightning as L
import numpy as np
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger


def log_images(
    trainer: L.Trainer, key: str, pictures: Sequence[np.ndarray], captions: Sequence[str]
) -> None:
    """Hand uint8 RGB pictures [H, W, 3] to every logger that shows pictures.

    They are logged directly, never inside a `wandb.Table`: of an offline run those would not be in
    the run's folder. Other loggers have the files under the run directory.
    """
    step = trainer.global_step
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            logger.log_image(key, list(pictures), step=step, caption=list(captions))
        elif isinstance(logger, TensorBoardLogger):
            for i, picture in enumerate(pictures):
                logger.experiment.add_image(f"{key}/{i}", picture, step, dataformats="HWC")
