"""One run: build every part from its configuration, train, test, write the results."""

import logging
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import WandbLogger
from omegaconf import DictConfig, OmegaConf, open_dict
from rich.console import Console
from rich.syntax import Syntax

from mmattn.captioner import Captioner
from mmattn.cli.arguments import check_arguments
from mmattn.cli.distributed import check_ranks, join_processes, one_job, quiet_other_ranks
from mmattn.cli.report import report
from mmattn.cli.suggest import one_line
from mmattn.cli.targets import check_targets
from mmattn.data.module import CaptionDataModule
from mmattn.errors import ConfigError, UserError
from mmattn.tasks.captioning import CaptioningTask
from mmattn.training.allocator import keep_freed_memory
from mmattn.training.checkpoints import check_checkpoint, find_checkpoint, load_weights
from mmattn.training.feature_cache import FeatureCache
from mmattn.training.results import write_results
from mmattn.training.throughput import Throughput

log = logging.getLogger(__name__)


def run(config: DictConfig, folder: Path) -> float | None:
    """Train and test as configured, in `folder`; return the metric that a sweep optimises.

    Raises:
        UserError: for a mistake in configuration or data, before training starts.
    """
    check_targets(config, config.allow_targets)
    check_arguments(config)
    check_writable(folder)
    runs = Path(config.paths.log_dir) / config.task_name
    checkpoint = find_checkpoint(config.ckpt_path, folder, runs)
    if config.test and not config.train and checkpoint is None:
        raise ConfigError("train=false test=true needs ckpt_path=… to test")
    keep_metrics(folder)
    quiet_libraries()
    with one_job():
        join_processes(folder, checkpoint)
        quiet_other_ranks()
        return train_and_test(config, folder, checkpoint)


def train_and_test(config: DictConfig, folder: Path, checkpoint: Path | None) -> float | None:
    """Build every part, then train and test."""
    L.seed_everything(config.seed, workers=True, verbose=False)
    torch.set_float32_matmul_precision("high")
    keep_freed_memory()

    data = build(config.data, "data")
    data.read()
    with open_dict(config):
        config.model.text.vocab_size = data.tokenizer.vocab_size
    model = build(config.model, "model")
    task = build_task(config, model, data)
    trainer = build_trainer(config)
    check_ranks(trainer.world_size)
    if checkpoint is not None:
        check_checkpoint(task, checkpoint, data if config.train else None, trainer.world_size)
    show_config(config, folder)

    metrics: dict[str, Any] = {}
    with logged(trainer, config, model):
        if config.feature_cache is not None:
            use_feature_cache(config, data, model, trainer)
        if config.train:
            fit(trainer, task, data, checkpoint)
            metrics |= trainer.callback_metrics
        if config.test:
            test(trainer, task, data, checkpoint, trained=config.train)
            metrics |= trainer.callback_metrics
        return finish(trainer, config, folder, metrics)


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
    partial = instantiate(config.trainer, _partial_=True, _convert_="all")
    try:
        return partial(
            callbacks=[callback for callback in built if not isinstance(callback, tuple(idle))],
            logger=loggers or False,
        )
    except (ValueError, TypeError, MisconfigurationException) as error:
        raise ConfigError(f"trainer: {one_line(str(error))}") from error


def use_feature_cache(
    config: DictConfig, data: CaptionDataModule, model: Captioner, trainer: L.Trainer
) -> None:
    """Encode all images once with the frozen backbone, and train on what it returns."""
    cache = FeatureCache(
        config.feature_cache,
        model.vision.patches,
        data.eval_transform,
        batch_size=data.loader.eval_batch_size,
        device=trainer.strategy.root_device,
    )
    data.use_features(cache)


def fit(
    trainer: L.Trainer, task: CaptioningTask, data: CaptionDataModule, checkpoint: Path | None
) -> None:
    """Train, from `checkpoint` on where there is one."""
    if checkpoint is not None:
        here = checkpoint.resolve().is_relative_to(Path(trainer.default_root_dir).resolve())
        anew = "" if here else ", in a new directory: the best checkpoint will be of this part only"
        log.info("going on from %s%s", checkpoint, anew)
    try:
        trainer.fit(task, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except MisconfigurationException as error:
        raise ConfigError(one_line(str(error))) from error


def test(
    trainer: L.Trainer,
    task: CaptioningTask,
    data: CaptionDataModule,
    checkpoint: Path | None,
    *,
    trained: bool,
) -> None:
    """Test the best weights of this run, or those of `checkpoint` where nothing was trained."""
    best = getattr(trainer.checkpoint_callback, "best_model_path", "") if trained else checkpoint
    if best:
        log.info("testing %s", best)
        load_weights(task, Path(best))
    trainer.test(task, datamodule=data, verbose=False)


def callbacks(trainer: L.Trainer) -> list[L.Callback]:
    """Return the trainer's callbacks (Lightning gives it the attribute without declaring it)."""
    return getattr(trainer, "callbacks")  # noqa: B009


def finish(
    trainer: L.Trainer, config: DictConfig, folder: Path, metrics: dict[str, Any]
) -> float | None:
    """Write results.json, say what came out and where it is; return the optimised metric."""
    for callback in callbacks(trainer):
        if isinstance(callback, Throughput):
            metrics |= callback.results()
    if trainer.is_global_zero and not config.trainer.fast_dev_run:
        report(write_results(folder / "results.json", metrics), folder, trainer)
    wanted = config.optimized_metric
    if wanted is None or wanted not in metrics:
        return None
    return float(metrics[wanted])


@rank_zero_only
def show_config(config: DictConfig, folder: Path) -> None:
    """Print the resolved configuration and keep it in the run directory."""
    text = OmegaConf.to_yaml(config, resolve=True)
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    if config.print_config:
        width = shutil.get_terminal_size().columns
        Console(width=width).print(Syntax(text, "yaml", background_color="default"))


@contextmanager
def logged(trainer: L.Trainer, config: DictConfig, model: torch.nn.Module) -> Iterator[None]:
    """Hand configuration and parameter counts to the loggers; close W&B's run at the end.

    An open W&B run would take the figures of a sweep's next job as well.
    """
    values: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    values["parameters/total"] = sum(p.numel() for p in model.parameters())
    values["parameters/trainable"] = sum(p.numel() for p in model.parameters() if p.requires_grad)
    for logger in trainer.loggers:
        logger.log_hyperparams(values)
    runs = [x.experiment for x in trainer.loggers if isinstance(x, WandbLogger)]
    exit_code = 1
    try:
        yield
        exit_code = 0
    finally:
        for run in runs if trainer.is_global_zero else []:
            run.finish(exit_code)


def check_writable(folder: Path) -> None:
    """Raise ConfigError where the run directory cannot be written."""
    probe = folder / ".writable"
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError(
            f"cannot write to the run directory {folder} ({error.strerror}): "
            "choose another with paths.log_dir=…"
        ) from None


@rank_zero_only
def keep_metrics(folder: Path) -> None:
    """Rename the metrics.csv of an earlier run in this directory: the logger would delete it."""
    metrics = folder / "metrics.csv"
    if metrics.exists():
        metrics.rename(folder / f"metrics-until-{metrics.stat().st_mtime_ns}.csv")


def quiet_libraries() -> None:
    """Silence advice that does not apply here, and say once what Lightning would say twice."""
    for message in (
        ".*does not have many workers.*",  # small images: reading costs less than a worker
        ".*module\\(s\\) in eval mode at the start.*",  # a frozen backbone is meant to be
        ".*number of training batches.*smaller than the logging interval.*",
        ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*",
        ".*Dynamo detected a call to a `functools.lru_cache`.*",  # of recording, which may be slow
        "Experiment logs directory .* exists and is not empty.*",  # it is this run's own
        "The dirpath has changed from .*",  # said in `fit`, in words of ours
    ):
        warnings.filterwarnings("ignore", message=message)
    logging.getLogger("lightning").handlers.clear()  # Hydra's print it too, and keep it in the log
