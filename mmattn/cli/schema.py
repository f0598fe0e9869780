"""The typed root of the configuration, where its files lie, and what `${…:}` may compute."""

import os
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
class TrainConfig:
    """The root of `conf/train.yaml`; groups hold constructor arguments and check themselves."""

    task_name: str = MISSING
    tags: list[str] = field(default_factory=list)
    seed: int = MISSING
    train: bool = MISSING
    test: bool = MISSING
    ckpt_path: str | None = None
    start_from: str | None = None
    compile: bool = MISSING
    print_config: bool = MISSING
    optimized_metric: str | None = None
    allow_targets: list[str] = field(default_factory=list)
    feature_cache: str | None = None
    feature_views: int = MISSING
    feature_mirrored: bool = MISSING
    controls: list[str] = field(default_factory=list)
    logger_timeout: float = MISSING
    paths: Paths = field(default_factory=Paths)
    task: Any = MISSING
    data: Any = MISSING
    model: Any = MISSING
    optimizer: Any = MISSING
    scheduler: Any = None
    trainer: Any = MISSING
    map: Any = None
    callbacks: Any = None
    logger: Any = None


def config_dir() -> Path:
    """Return the folder of the YAML files: in the wheel `mmattn/conf`, in a checkout `conf`."""
    return HERE / "conf" if (HERE / "conf").is_dir() else HERE.parent / "conf"


def run_time() -> str:
    """Return the run's time stamp, the same in all processes of the run.

    Processes that this one starts inherit it; those that `torchrun` starts share a parent, and take
    the time at which that started. Those that `srun` starts, on several machines, share nothing but
    the number of their job; one that is queued again after a stop keeps it, and its run directory.
    """
    if "MMATTN_RUN_TIME" not in os.environ:
        if by_slurm():
            step = os.environ.get("SLURM_STEP_ID", "0")
            stamp = f"slurm_{os.environ['SLURM_JOB_ID']}" + f"_{step}" * (step != "0")
        else:
            launched = by_torchrun() and Path("/proc/stat").exists()
            pid = os.getppid() if launched else os.getpid()
            moment = time.localtime(start_time(pid) if launched else None)
            stamp = f"{time.strftime('%Y-%m-%d_%H-%M-%S', moment)}_{pid}"
        os.environ["MMATTN_RUN_TIME"] = stamp
    return os.environ["MMATTN_RUN_TIME"]


def start_time(pid: int) -> float:
    """Return when a process started, in seconds since the epoch (Linux, see proc(5))."""
    kernel = Path("/proc/stat").read_text(encoding="utf-8").splitlines()
    boot = next(int(line.split()[1]) for line in kernel if line.startswith("btime"))
    # The second field is a name in parentheses that may hold spaces; the start is the 22nd.
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return boot + int(fields[19]) / os.sysconf("SC_CLK_TCK")


def by_torchrun() -> bool:
    """Whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def by_slurm() -> bool:
    """Whether `srun` started this process as one of several, in Lightning's eyes.

    A shell on a machine of SLURM's has the same variables, and a name of its own.
    """
    shell = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")
    return not by_torchrun() and not shell and int(os.environ.get("SLURM_NTASKS", "1")) > 1


def processes() -> int | str:
    """Return how many processes torchrun or srun started on this machine; "auto" without them."""
    if by_slurm():
        return int(os.environ["SLURM_NTASKS"]) // machines()
    return int(os.environ["LOCAL_WORLD_SIZE"]) if by_torchrun() else "auto"


def machines() -> int:
    """Return on how many machines torchrun or srun started processes; 1 without them."""
    if by_slurm():
        return int(os.environ.get("SLURM_NNODES", "1"))
    return int(os.environ["GROUP_WORLD_SIZE"]) if by_torchrun() else 1


def wandb_offline() -> bool:
    """Whether W&B is to stay offline: told so, or no key in the environment or the user's netrc."""
    mode = os.environ.get("WANDB_MODE")
    if mode:
        return mode in ("offline", "dryrun")  # "disabled" is W&B's own to act on
    if os.environ.get("WANDB_API_KEY"):
        return False
    try:
        netrc = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    except RuntimeError:  # a user without a home
        return True
    return not (netrc.is_file() and "wandb" in netrc.read_text(encoding="utf-8", errors="replace"))


def register() -> None:
    """Tell Hydra of the root's types and OmegaConf of the resolvers."""
    ConfigStore.instance().store(name="schema", node=TrainConfig)
    for resolver in (run_time, processes, machines, wandb_offline):
        OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)
