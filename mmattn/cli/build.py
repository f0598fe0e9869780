"""From configuration to parts: the only place where anything is instantiated."""

import copy
import logging
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
from lightning.pytorch.loggers import CSVLogger
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import nn

from mmattn.cli.suggest import one_line
from mmattn.data.split_module import SplitDataModule
from mmattn.errors import ConfigError, UserError
from mmattn.tasks.task import Task
from mmattn.training.checkpoints.resume_point import ResumePoint
from mmattn.training.feature_cache import FeatureCache, drawn_view
from mmattn.training.loggers.metrics_file import MetricsFile
from mmattn.training.processes.shared_buffers import SharedBuffers
from mmattn.training.stopping.preemption import Preemption

log = logging.getLogger(__name__)


def build(config: DictConfig, key: str) -> Any:
    """Instantiate one part; what its constructor refuses is a mistake in the input."""
    try:
        return instantiate(detached(config), _convert_="all")
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


def detached(node: DictConfig) -> DictConfig:
    """Return a node in a copy of its whole configuration, which stays as it was written.

    Hydra copies the node alone and resolves in place what its interpolations lead to: what then
    came from the environment could no longer be told from what was written.
    """
    root = copy.deepcopy(node._get_root())
    key = node._get_full_key(None)
    return OmegaConf.select(root, key) if key else root  # pyright: ignore[reportReturnType]


def build_model(config: DictConfig, data: SplitDataModule) -> nn.Module:
    """Build the model, of the sizes that the data need."""
    with open_dict(config):
        for key, value in data.model_settings().items():
            part = key.rpartition(".")[0]
            if not part or OmegaConf.select(config.model, part) is not None:
                OmegaConf.update(config.model, key, value, merge=False)
    return build(config.model, "model")


def build_task(config: DictConfig, model: nn.Module, data: SplitDataModule) -> Task:
    """Build the task around the model; `compile` replaces the model's forward passes in place."""
    if config.compile:
        for part in ("vision", "text", "text_encoder"):
            encoder = getattr(model, part, None)
            if encoder is not None:
                encoder.compile()
    make = build(config.task, "task")
    try:
        return make(
            model=model,
            optimizer=build(config.optimizer, "optimizer"),
            scheduler=build(config.scheduler, "scheduler") if config.scheduler else None,
            **data.task_settings(),
        )
    except TypeError as error:
        raise ConfigError(
            f"task: {one_line(str(error))}: task, data and model are of different kinds; see "
            "conf/experiment for some that go together"
        ) from error


def build_trainer(config: DictConfig) -> L.Trainer:
    """Build the trainer with its callbacks and loggers."""
    loggers = build_loggers(config)
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
    built = chosen(config, "callbacks")
    # A validation that is given up is seen to before others make something of it; averaged weights
    # leave last, so that what others draw and measure is of them.
    first, last = Preemption, WeightAveraging
    built.sort(key=lambda callback: isinstance(callback, last) - isinstance(callback, first))
    kept = [callback for callback in built if not isinstance(callback, tuple(idle))]
    partial = instantiate(detached(config.trainer), _partial_=True, _convert_="all")
    try:
        return partial(
            callbacks=[ResumePoint(), SharedBuffers(), *kept],
            logger=loggers or False,
        )
    except (ValueError, TypeError, MisconfigurationException) as error:
        raise ConfigError(f"trainer: {one_line(str(error))}") from error


def build_loggers(config: DictConfig) -> list[Any]:
    """Build the loggers; one whose package is not installed is warned of and left out.

    Beside others there is always metrics.csv, which depends on nothing.
    """
    loggers: list[Any] = []
    for name, part in (config.logger or {}).items():
        try:
            loggers += [build(part, f"logger.{name}")] if part is not None else []
        except UserError as error:
            if not isinstance(cause_of(error), ImportError):
                raise
            log.warning("%s: %s; training goes on without it", name, one_line(str(error)))
    wanted = any(part is not None for part in (config.logger or {}).values())
    if wanted and not any(isinstance(logger, CSVLogger) for logger in loggers):
        loggers.append(MetricsFile(config.paths.output_dir, name="", version=""))
    return loggers


def cause_of(error: BaseException) -> BaseException:
    """Return the first error of those that were raised from one another."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def chosen(config: DictConfig, group: str) -> list[Any]:
    """Instantiate all parts of a group but those that are set to null."""
    parts = (config[group] or {}).items()
    return [build(part, f"{group}.{name}") for name, part in parts if part is not None]


def use_feature_cache(
    config: DictConfig, data: SplitDataModule, model: nn.Module, trainer: L.Trainer
) -> None:
    """Encode all images once with the frozen backbone and train on that, if asked to."""
    check_views(config)
    if config.feature_cache is None:
        return
    cache = FeatureCache(
        config.feature_cache,
        model.get_submodule("vision.patches"),  # type: ignore[arg-type]
        data.eval_transform,
        batch_size=data.loader.eval_batch_size,
        device=trainer.strategy.root_device,
        augmentation=data.train_transform,
        views=config.feature_views,
        mirrored=config.feature_mirrored,
    )
    if config.feature_views or config.feature_mirrored:
        data.use_features(cache, cache.augmented, drawn_view)
    else:
        data.use_features(cache)


def check_views(config: DictConfig) -> None:
    """Raise ConfigError for a number of views that is none, or for copies that nothing keeps."""
    asked = config.feature_views or config.feature_mirrored
    if config.feature_views < 0 or (asked and config.feature_cache is None):
        raise ConfigError(
            f"feature_views={config.feature_views} and feature_mirrored={config.feature_mirrored} "
            "are copies of training images that feature_cache keeps: set feature_cache to a "
            "folder, or feature_views=0 and feature_mirrored=false"
        )
