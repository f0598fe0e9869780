"""One run: build every part from its configuration, train, test, write the results."""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.fabric.utilities.rank_zero import rank_zero_only
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.syntax import Syntax

from mmattn.cli.arguments import check_arguments
from mmattn.cli.build import build, build_model, build_task, build_trainer, use_feature_cache
from mmattn.cli.calibrate import calibrate
from mmattn.cli.controls import check_controls, run_controls
from mmattn.cli.distributed import check_ranks, join_processes, one_job, quiet_other_ranks
from mmattn.cli.loggers import check_loggers
from mmattn.cli.quiet import quiet_libraries
from mmattn.cli.report import report
from mmattn.cli.save_model import save_model
from mmattn.cli.secrets import hide_secrets, shown
from mmattn.cli.start_from import start_from
from mmattn.cli.suggest import one_line
from mmattn.cli.targets import check_targets
from mmattn.data.split_module import SplitDataModule
from mmattn.errors import ConfigError
from mmattn.tasks.task import Task
from mmattn.training.allocator import keep_freed_memory
from mmattn.training.checkpoints.finding import check_checkpoint, find_checkpoint, load_weights
from mmattn.training.loggers.continued_logs import go_on_logging
from mmattn.training.loggers.logger_guard import guarded_loggers
from mmattn.training.memory import lack_of_memory
from mmattn.training.parts import callbacks_of
from mmattn.training.processes.launcher import end_together
from mmattn.training.results import write_results
from mmattn.training.stopping.stop_agreement import rank_0_leaves_first
from mmattn.training.throughput import Throughput

log = logging.getLogger(__name__)
GRACE = 30.0  # seconds beyond `logger_timeout` that a guard gives W&B


def run(config: DictConfig, folder: Path) -> float | None:
    """Train and test as configured, in `folder`; return the metric that a sweep optimises.

    Raises:
        UserError: for a mistake in configuration or data, before training starts.
    """
    check_targets(config, config.allow_targets)
    check_arguments(config)
    check_loggers(config)
    check_writable(folder)
    hide_secrets(config, folder)
    runs = Path(config.paths.log_dir) / config.task_name
    checkpoint = find_checkpoint(config.ckpt_path, folder, runs)
    if config.test and not config.train and checkpoint is None:
        raise ConfigError("train=false test=true needs ckpt_path=… to test")
    if not goes_on_in(folder, checkpoint, config.train):
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
    check_controls(config.controls or (), data)
    model = build_model(config, data)
    if config.start_from is not None and checkpoint is None:
        start_from(config.start_from, model, getattr(data, "tokenizer", None))
    task = build_task(config, model, data)
    if config.train and config.feature_cache is not None:
        task.check_cached()
    trainer = build_trainer(config)
    check_ranks(trainer.world_size)
    if checkpoint is not None:
        content = check_checkpoint(
            task, checkpoint, data if config.train else None, trainer.world_size
        )
        if goes_on_in(folder, checkpoint, config.train):
            go_on_logging(trainer.loggers, content)
    show_config(config, folder)

    metrics: dict[str, Any] = {}
    keeps = config.train and not config.trainer.fast_dev_run  # what it learns
    together = end_together(trainer.strategy.launcher)
    with together, rank_0_leaves_first(logger_end(config)), logged(trainer, config, model):
        use_feature_cache(config, data, model, trainer)
        if config.train:
            fit(trainer, task, data, checkpoint)
            metrics |= trainer.callback_metrics
        if keeps:  # before the tests, which show how sure the model may be with it
            metrics |= calibrate(trainer, task, data, best=best_weights(trainer))
        if config.test:
            test(trainer, task, data, checkpoint, trained=config.train)
            metrics |= trainer.callback_metrics
        metrics["model/parameters"] = float(sum(p.numel() for p in model.parameters()))
        for callback in callbacks_of(trainer):
            if isinstance(callback, Throughput):
                metrics |= callback.results()
        if keeps and trainer.is_global_zero:
            # A test has loaded the best weights, and measured them.
            best = None if config.test else best_weights(trainer)
            save_model(task, data, folder, best=best, results=metrics if config.test else {})
        if config.controls and config.train and config.test:
            if keeps and trainer.is_global_zero:  # a control that fails takes nothing with it
                write_results(folder / "results.json", metrics)
            metrics |= run_controls(config, data)
        return finish(trainer, config, folder, metrics)


def fit(trainer: L.Trainer, task: Task, data: SplitDataModule, checkpoint: Path | None) -> None:
    """Train, from `checkpoint` on where there is one."""
    if checkpoint is not None:
        here = goes_on_in(Path(trainer.default_root_dir), checkpoint, train=True)
        anew = "" if here else ", in a new directory: the best checkpoint will be of this part only"
        log.info("going on from %s%s", checkpoint, anew)
    try:
        trainer.fit(task, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except MisconfigurationException as error:
        raise ConfigError(one_line(str(error))) from error
    except RuntimeError as error:
        lack = lack_of_memory(error, data, trainer.accumulate_grad_batches)
        if lack is None:
            raise
        raise ConfigError(lack) from error


def goes_on_in(folder: Path, checkpoint: Path | None, train: bool) -> bool:
    """Whether training goes on from a checkpoint in its own folder, with its own curves."""
    return bool(train and checkpoint and checkpoint.resolve().is_relative_to(folder.resolve()))


def test(
    trainer: L.Trainer,
    task: Task,
    data: SplitDataModule,
    checkpoint: Path | None,
    *,
    trained: bool,
) -> None:
    """Test the best weights of this run, or those of `checkpoint` where nothing was trained."""
    best = best_weights(trainer) if trained else checkpoint
    if best is not None:
        log.info("testing %s", best)
        load_weights(task, best)
    trainer.test(task, datamodule=data, verbose=False)


def best_weights(trainer: L.Trainer) -> Path | None:
    """Return the run's best checkpoint; None where it keeps none: the last weights are the best."""
    path = getattr(trainer.checkpoint_callback, "best_model_path", "")
    return Path(path) if path else None


def finish(
    trainer: L.Trainer, config: DictConfig, folder: Path, metrics: dict[str, Any]
) -> float | None:
    """Write results.json, say what came out and where it is; return the optimised metric."""
    if trainer.is_global_zero and not config.trainer.fast_dev_run:
        report(write_results(folder / "results.json", metrics), folder, trainer)
    wanted = config.optimized_metric
    if wanted is None or wanted not in metrics:
        return None
    return float(metrics[wanted])


@rank_zero_only
def show_config(config: DictConfig, folder: Path) -> None:
    """Print the resolved configuration and keep it in the run directory."""
    text = OmegaConf.to_yaml(OmegaConf.create(shown(config)))
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    if config.print_config:
        width = shutil.get_terminal_size().columns
        Console(width=width).print(Syntax(text, "yaml", background_color="default"))


@contextmanager
def logged(trainer: L.Trainer, config: DictConfig, model: torch.nn.Module) -> Iterator[None]:
    """Begin the loggers with configuration and parameter counts, and end them."""
    values = shown(config)
    values["parameters/total"] = sum(p.numel() for p in model.parameters())
    values["parameters/trainable"] = sum(p.numel() for p in model.parameters() if p.requires_grad)
    with guarded_loggers(trainer, values, config.logger_timeout):
        yield


def logger_end(config: DictConfig) -> float:
    """Return how many seconds all loggers together may take to end, one after another.

    Each waits for its turn in the queue of what is still to be sent, and then for its own end.
    """
    return len(config.logger or ()) * 2 * (config.logger_timeout + GRACE)


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
