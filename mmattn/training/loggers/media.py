"""Pictures, pages and figures for whichever loggers a run has, on the trainer's step axis.

What is logged here is also on disk, so a logger that fails costs a look at a dashboard and nothing
else: it is warned of once, and training goes on.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from mmattn.maps.png import encoded
from mmattn.training.loggers.trackio_logger import TrackioLogger

log = logging.getLogger(__name__)
# What W&B asks its users to stay below in one step (docs.wandb.ai, "Experiments limits").
MOST_IMAGES, MOST_BYTES = 50, 25_000_000
SHOWING = (WandbLogger, TensorBoardLogger, TrackioLogger)  # pictures; others get only numbers


class Media:
    """Hands media to every logger that can show it, at a step of the trainer.

    They are logged directly, never inside a `wandb.Table`: of an offline run those would not be in
    the run's folder. Loggers that show no media have the files under the run directory.

    Args:
        share: of the images and bytes of a step that all together may log.
    """

    def __init__(self, share: float = 1.0):
        self.most = round(share * MOST_IMAGES), round(share * MOST_BYTES)
        self._step, self._images, self._bytes = -1, 0, 0  # what this step has so far
        self._failed: set[int] = set()  # loggers already warned of
        self._cut = False

    def images(
        self,
        loggers: Sequence[Logger],
        step: int,
        key: str,
        pictures: Sequence[np.ndarray],
        captions: Sequence[str],
    ) -> None:
        """Log uint8 RGB pictures [H, W, 3] of any sizes, each with a caption.

        Those that are too many or too large for one step, with all that was logged at it before,
        are only on disk.
        """
        showing = [logger for logger in loggers if isinstance(logger, SHOWING)]
        fitting = self._fitting(step, pictures) if showing else 0
        if not fitting:
            return
        pictures, captions = pictures[:fitting], captions[:fitting]

        def to(logger: Logger) -> None:
            if isinstance(logger, WandbLogger):
                logger.log_image(key, same_size(pictures), step=step, caption=list(captions))
            elif isinstance(logger, TensorBoardLogger):
                for i, picture in enumerate(pictures):
                    logger.experiment.add_image(f"{key}/{i}", picture, step, dataformats="HWC")
            elif isinstance(logger, TrackioLogger):
                logger.log_images(key, pictures, captions, step)

        self._each(showing, to)

    def page(self, loggers: Sequence[Logger], step: int, key: str, html: str) -> None:
        """Log a self-contained HTML page where a logger shows one: W&B."""

        def to(logger: Logger) -> None:
            if isinstance(logger, WandbLogger):
                import wandb

                # inject=False: else W&B would add a style sheet from its own server.
                page: Any = wandb.Html(html, inject=False)
                logger.log_metrics({key: page}, step)  # of our guard, where there is one

        self._each(loggers, to)

    def figures(self, loggers: Sequence[Logger], step: int, values: Mapping[str, float]) -> None:
        """Log numbers, to every logger."""
        self._each(loggers, lambda logger: logger.log_metrics(dict(values), step))

    def _each(self, loggers: Sequence[Logger], to: Callable[[Logger], None]) -> None:
        for logger in loggers:
            try:
                to(logger)
            except Exception as error:  # whatever a service or its client may raise
                if id(logger) not in self._failed:
                    self._failed.add(id(logger))
                    log.warning(
                        "%s could not log pictures (%s: %s); training goes on, the files are in "
                        "the run directory, and this is said once",
                        *(type(logger).__name__, type(error).__name__, error),
                    )

    def _fitting(self, step: int, pictures: Sequence[np.ndarray]) -> int:
        """Return how many of the pictures this step still has room for, and count them."""
        if step != self._step:
            self._step, self._images, self._bytes = step, 0, 0
        images, size = self.most
        fitting = 0
        for picture in pictures:
            needed = len(encoded(picture))
            if self._images == images or self._bytes + needed > size:
                self._warn_cut(step, fitting, len(pictures))
                break
            self._images, self._bytes, fitting = self._images + 1, self._bytes + needed, fitting + 1
        return fitting

    def _warn_cut(self, step: int, fitting: int, count: int) -> None:
        if self._cut:
            return
        self._cut = True
        log.warning(
            "step %d: %d of %d pictures are logged (at most %d and %d MB a step); all are on disk",
            *(step, fitting, count, self.most[0], self.most[1] // 1_000_000),
        )


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
