"""From configuration to parts: the only place where anything is instantiated."""

from typing import Any

import lightning as L
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import (
    LearningRateMonitor,
    ModelCheckpoint,
    RichProgressBar,
    WeightAveraging,
)
from omegaconf import DictConfig

from mmattn.captioner import Captioner
from mmattn.cli.suggest import one_line
from mmattn.data.module import CaptionDataModule
from mmattn.errors import ConfigError, UserError
from mmattn.tasks.captioning import CaptioningTask


def build(config: DictConfig, key: str) -> Any:
    """Instantiate one part; what its constructor refuses is a mistake in the input."""
    try:
        return instantiate(config, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        if cause is None:
            raise
        if isinstance(cause, UserError):
            raise UserError(str(cause)) from error
        lines = str(error).splitlines()
        where = next((line[10:] for line in lines if line.startswith("full_key: ")), key)
        expected = (ValueError, TypeError, ImportError, OSError, MisconfigurationException)
        kind = "" if isinstance(cause, expected) else f"{type(cause).__name__}: "
        raise ConfigError(f"{where}: {kind}{one_line(str(cause))}") from error


def build_task(config: DictConfig, model: Captioner, data: CaptionDataModule) -> CaptioningTask:
    """Build the task around the model; `compile` replaces the model's forward passes in place."""
    if config.compile:
        model.vision.compile()
        model.text.compile()
    return CaptioningTask(
        model,
        data.tokenizer,
        build(config.optimizer, "optimizer"),
        build(config.scheduler, "scheduler") if config.scheduler else None,
        max_length=data.max_length,
        test_names=data.test_names,
        **config.task,
    )


def build_trainer(config: DictConfig) -> L.Trainer:
    """Build the trainer with its callbacks and loggers."""
    loggers = [build(part, f"logger.{name}") for name, part in (config.logger or {}).items()]
    for logger in loggers:  # W&B 0.31 warns of a setting that Lightning 2.6 hands it unasked
        getattr(logger, "_wandb_init", {}).pop("anonymous", None)
    # Lightning refuses a callback beside the setting that makes it idle.
    idle: list[type] = []
    if not config.trainer.enable_progress_bar:
        idle.append(RichProgressBar)
    if not config.trainer.enable_checkpointing:
        idle.append(ModelCheckpoint)
    if not loggers:
        idle.append(LearningRateMonitor)
    built = [build(part, f"callbacks.{name}") for name, part in (config.callbacks or {}).items()]
    # Averaged weights leave last, so that what others draw and measure is of them.
    built.sort(key=lambda callback: isinstance(callback, WeightAveraging))
    partial = instantiate(config.trainer, _partial_=True, _convert_="all")
    try:
        return partial(
            callbacks=[callback for callback in built if not isinstance(callback, tuple(idle))],
            logger=loggers or False,
        )
    except (ValueError, TypeError, MisconfigurationException) as error:
        raise ConfigError(f"trainer: {one_line(str(error))}") from error
