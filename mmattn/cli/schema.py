"""The typed root of the configuration, where its files lie, and what `${…:}` may compute."""

import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf

HERE = Path(__file__).resolve().parent.parent


@dataclass
class Paths:
    """Folders of a run."""

    log_dir: str = MISSING
    data_dir: str = MISSING
    output_dir: str = MISSING


@dataclass
class Task:
    """What the task adds to the model."""

    label_smoothing: float = MISSING
    layer_decay: float = MISSING


@dataclass
class TrainConfig:
    """The root of `conf/train.yaml`; groups hold constructor arguments and check themselves."""

    task_name: str = MISSING
    tags: list[str] = field(default_factory=list)
    seed: int = MISSING
    train: bool = MISSING
    test: bool = MISSING
    ckpt_path: str | None = None
    compile: bool = MISSING
    print_config: bool = MISSING
    optimized_metric: str | None = None
    allow_targets: list[str] = field(default_factory=list)
    feature_cache: str | None = None
    paths: Paths = field(default_factory=Paths)
    task: Task = field(default_factory=Task)
    data: Any = MISSING
    model: Any = MISSING
    optimizer: Any = MISSING
    scheduler: Any = None
    trainer: Any = MISSING
    callbacks: Any = None
    logger: Any = None


def config_dir() -> Path:
    """Return the folder of the YAML files: in the wheel `mmattn/conf`, in a checkout `conf`."""
    return HERE / "conf" if (HERE / "conf").is_dir() else HERE.parent / "conf"


def run_time() -> str:
    """Return the run's time stamp, the same in all processes of the run.

    Processes that this one starts inherit it; those that `torchrun` starts share a parent, and take
    the time at which that started.
    """
    if "MMATTN_RUN_TIME" not in os.environ:
        parent = Path(f"/proc/{os.getppid()}")
        launched = "TORCHELASTIC_RUN_ID" in os.environ and parent.exists()
        moment = parent.stat().st_ctime if launched else time.time()
        stamp = time.strftime("%Y-%m-%d_%H-%M-%S", time.localtime(moment))
        os.environ["MMATTN_RUN_TIME"] = f"{stamp}_{os.getppid() if launched else os.getpid()}"
    return os.environ["MMATTN_RUN_TIME"]


def wandb_offline() -> bool:
    """Whether W&B has no key here: neither in the environment nor in the user's netrc."""
    mode = os.environ.get("WANDB_MODE")
    if mode:
        return mode != "online"
    if os.environ.get("WANDB_API_KEY"):
        return False
    netrc = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    return not (netrc.is_file() and "wandb" in netrc.read_text(encoding="utf-8", errors="replace"))


def register() -> None:
    """Tell Hydra of the root's types and OmegaConf of the resolvers."""
    ConfigStore.instance().store(name="schema", node=TrainConfig)
    OmegaConf.register_new_resolver("run_time", run_time, replace=True)
    OmegaConf.register_new_resolver("wandb_offline", wandb_offline, replace=True)


def command_line_value(key: str) -> bool:
    """Whether `key` was set on this command line, not in a file."""
    return any(argument.lstrip("+").split("=")[0] == key for argument in sys.argv[1:])
