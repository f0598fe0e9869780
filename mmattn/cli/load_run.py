"""A finished run as it was: its data, its model, and the weights of its best checkpoint."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from mmattn.cli.arguments import check_arguments
from mmattn.cli.build import build, build_model, build_task
from mmattn.cli.quiet import quiet_libraries
from mmattn.cli.suggest import one_line
from mmattn.cli.targets import check_targets
from mmattn.data.module import CaptionDataModule
from mmattn.data.split_module import SplitDataModule
from mmattn.errors import CheckpointError, ConfigError
from mmattn.tasks.captioning import CaptioningTask
from mmattn.tasks.task import Task
from mmattn.training.checkpoints.finding import best_checkpoint, load_weights

CAPTIONING = {"_target_": "mmattn.tasks.captioning.CaptioningTask", "_partial_": True}


@dataclass(frozen=True)
class Run:
    """A run directory and what was rebuilt from it, ready to be looked at."""

    folder: Path
    checkpoint: Path
    config: DictConfig
    task: Task
    data: SplitDataModule


def load_run(model: str | Path, overrides: Sequence[str] = (), allowed: Sequence[str] = ()) -> Run:
    """Rebuild a run from its directory, or from one of the checkpoints in it.

    Args:
        model: a run directory, or a checkpoint below it.
        overrides: `key=value` changes to its configuration, such as a data set's new place.
        allowed: packages of the user's own that its configuration may name.

    Raises:
        UserError: where that is no run, names something that may not be built, or does not fit.
    """
    folder, checkpoint = find_run(Path(model).expanduser())
    config = with_task(read_config(folder / "config.yaml", [*overrides, "compile=false"]))
    built = OmegaConf.masked_copy(config, ["data", "model", "task", "optimizer", "scheduler"])
    check_targets(built, allowed)
    check_arguments(built)
    quiet_libraries()
    data = build(config.data, "data")
    data.read()
    task = build_task(config, build_model(config, data), data)
    load_weights(task, checkpoint)
    return Run(folder, checkpoint, config, task.eval(), data)


def captioning_run(run: Run) -> tuple[CaptioningTask, CaptionDataModule]:
    """Return a captioner's task and data. Raises ConfigError for a run that is none."""
    if isinstance(run.task, CaptioningTask) and isinstance(run.data, CaptionDataModule):
        return run.task, run.data
    raise ConfigError(f"{run.folder}: the run of a {type(run.task).__name__}, not of a captioner")


def with_task(config: DictConfig) -> DictConfig:
    """Return a run's configuration with its task; runs of version 0.1 could only caption."""
    with open_dict(config):
        if "_target_" not in config.setdefault("task", {}):
            config.task = {**CAPTIONING, **config.task}
    return config


def find_run(path: Path) -> tuple[Path, Path]:
    """Return the run directory and the checkpoint that `path` means.

    Raises:
        ConfigError: where there is no run.
        CheckpointError: for a run without a checkpoint.
    """
    if path.is_file():
        folder = next((up for up in path.parents if (up / "config.yaml").is_file()), None)
        if folder is None:
            raise ConfigError(f"{path}: no config.yaml in the folders above: not part of a run")
        return folder, path
    if not (path / "config.yaml").is_file():
        what = "is no run directory: it has no config.yaml" if path.is_dir() else "does not exist"
        raise ConfigError(f"{path} {what}; give a folder such as logs/caption/runs/<time>")
    checkpoint = best_checkpoint(path / "checkpoints")
    if checkpoint is None:
        raise CheckpointError(f"{path}/checkpoints: no checkpoint; was this run ended early?")
    return path, checkpoint


def read_config(path: Path, overrides: Sequence[str]) -> DictConfig:
    """Return a run's configuration with changes. Raises ConfigError where one does not fit."""
    try:
        config = OmegaConf.load(path)
        if not isinstance(config, DictConfig) or not {"data", "model", "optimizer"} <= set(config):
            raise ConfigError(f"{path}: not the configuration of a run: it lacks data or model")
        OmegaConf.set_struct(config, True)
        for override in overrides:
            key, equals, value = override.partition("=")
            if not equals:
                raise ConfigError(f"{override!r}: give changes as key=value")
            change = OmegaConf.from_dotlist([f"value={value}"])
            OmegaConf.update(config, key, change.value)
        return config
    except (OmegaConfBaseException, YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {one_line(str(error))}") from error
