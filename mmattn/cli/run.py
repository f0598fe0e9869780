"""One run: build every part from its configuration, train, test, write the results."""

import logging
import shutil
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.callbacks import RichProgressBar
from omegaconf import DictConfig, OmegaConf, open_dict
from rich.console import Console
from rich.syntax import Syntax

from mmattn.captioner import Captioner
from mmattn.cli.distributed import one_folder_for_all_processes
from mmattn.cli.report import report
from mmattn.cli.targets import check_targets
from mmattn.data.module import CaptionDataModule
from mmattn.errors import ConfigError, UserError
from mmattn.tasks.captioning import CaptioningTask
from mmattn.training.checkpoints import find_checkpoint, load_weights
from mmattn.training.feature_cache import FeatureCache
from mmattn.training.results import write_results
from mmattn.training.throughput import Throughput

log = logging.getLogger(__name__)


def run(config: DictConfig, folder: Path) -> float | None:
    """Train and test as configured, in `folder`; return the metric that a sweep optimises.

    Raises:
        UserError: for a mistake in configuration or data, before training starts.
    """
    one_folder_for_all_processes(folder)
    check_targets(config, config.allow_targets)
    check_writable(folder)
    quiet_known_warnings()
    L.seed_everything(config.seed, workers=True, verbose=False)
    torch.set_float32_matmul_precision("high")

    data = build(config.data, "data")
    data.read()
    with open_dict(config):
        config.model.text.vocab_size = data.tokenizer.vocab_size
    show_config(config, folder)
    model = build(config.model, "model")
    task = build_task(config, model, data)
    trainer = build_trainer(config)
    log_hyperparameters(trainer, config, model)
    if config.feature_cache is not None:
        use_feature_cache(config, data, model, trainer)

    checkpoint = find_checkpoint(config.ckpt_path, Path(config.paths.log_dir) / config.task_name)
    metrics: dict[str, Any] = {}
    if config.train:
        fit(trainer, task, data, checkpoint)
        metrics |= trainer.callback_metrics
    if config.test:
        test(trainer, task, data, checkpoint, trained=config.train)
        metrics |= trainer.callback_metrics
    return finish(trainer, config, folder, metrics)


def build(config: DictConfig, key: str) -> Any:
    """Instantiate one part; a value that its constructor refuses is a mistake in the input."""
    try:
        return instantiate(config, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UserError):
            raise UserError(str(cause)) from None
        if isinstance(cause, (ValueError, TypeError)):
            where = str(error).splitlines()[-1].removeprefix("full_key: ")
            raise ConfigError(f"{where or key}: {cause}") from None
        raise


def build_task(config: DictConfig, model: Captioner, data: CaptionDataModule) -> CaptioningTask:
    """Build the task around the model; `compile` replaces the model's forward passes in place."""
    if config.compile:
        model.vision.compile()
        model.text.compile()
    return CaptioningTask(
        model,
        data.tokenizer,
        build(config.optimizer, "optimizer"),
        None if config.scheduler is None else build(config.scheduler, "scheduler"),
        max_length=data.max_length,
        test_names=data.test_names,
        **config.task,
    )


def build_trainer(config: DictConfig) -> L.Trainer:
    """Build the trainer with its callbacks and loggers."""
    callbacks = [
        build(part, f"callbacks.{name}") for name, part in (config.callbacks or {}).items()
    ]
    if not config.trainer.enable_progress_bar:  # Lightning refuses the two together
        callbacks = [c for c in callbacks if not isinstance(c, RichProgressBar)]
    loggers = [build(part, f"logger.{name}") for name, part in (config.logger or {}).items()]
    partial = instantiate(config.trainer, _partial_=True, _convert_="all")
    try:
        return partial(callbacks=callbacks, logger=loggers or False)
    except (ValueError, TypeError, MisconfigurationException) as error:
        raise ConfigError(f"trainer: {error}") from None


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
        log.info("going on from %s", checkpoint)
    trainer.fit(task, datamodule=data, ckpt_path=checkpoint, weights_only=True)


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
    elif not trained:
        raise ConfigError("train=false test=true needs ckpt_path=… to test")
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


def log_hyperparameters(trainer: L.Trainer, config: DictConfig, model: torch.nn.Module) -> None:
    """Hand configuration and parameter counts to the loggers; nothing in it is a secret."""
    values: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    values["parameters/total"] = sum(p.numel() for p in model.parameters())
    values["parameters/trainable"] = sum(p.numel() for p in model.parameters() if p.requires_grad)
    for logger in trainer.loggers:
        logger.log_hyperparams(values)


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


def quiet_known_warnings() -> None:
    """Silence advice that does not apply here; everything else stays visible."""
    for message in (
        ".*does not have many workers.*",  # small images: reading costs less than a worker
        ".*number of training batches.*smaller than the logging interval.*",
        ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*",
    ):
        warnings.filterwarnings("ignore", message=message)
