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
            logger.log_image(key, same_size(pictures), step=step, caption=list(captions))
        elif isinstance(logger, TensorBoardLogger):
            for i, picture in enumerate(pictures):
                logger.experiment.add_image(f"{key}/{i}", picture, step, dataformats="HWC")


def same_size(pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the pictures on paper as large as the largest: W&B shows a list in one size.

    The paper has the colour of the picture's last corner.
    """
    height = max(picture.shape[0] for picture in pictures)
    width = max(picture.shape[1] for picture in pictures)
    sheets = [np.full((height, width, 3), picture[-1, -1], np.uint8) for picture in pictures]
    for sheet, picture in zip(sheets, pictures, strict=True):
        sheet[: picture.shape[0], : picture.shape[1]] = picture
    return sheets
