"""One run, one folder: also where Lightning or torchrun starts processes, also inside a sweep."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from lightning.fabric.utilities.rank_zero import rank_zero_only
from omegaconf import open_dict, read_write

from mmattn.cli.command_line import folder_flags
from mmattn.errors import ConfigError
from mmattn.training.processes.launcher import leave_group
from mmattn.training.processes.other_ranks import GRACE

# What Lightning sets for the processes that it starts, and leaves behind.
LAUNCH = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")
PATIENCE = 600.0  # seconds for a rank to wait until others, such as rank 0 that writes, are done


@contextmanager
def one_job() -> Iterator[None]:
    """Leave command line, environment and process group as they were, for a sweep's next job."""
    arguments, before = list(sys.argv), {name: os.environ.get(name) for name in LAUNCH}
    try:
        yield
    except Exception:
        leave_group(GRACE)  # for others may wait for this one, elsewhere
        raise
    finally:
        leave_group(PATIENCE)
        sys.argv = arguments
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def join_processes(folder: Path, checkpoint: Path | None) -> None:
    """Make the processes that Lightning will start join this job instead of starting their own.

    Lightning starts rank 1, 2, … by running this program's own command again, with
    `hydra.run.dir=<run.dir of the configuration>` behind it. In a sweep that command would start
    the whole sweep again, in every rank. So the command becomes that of this one job, and the
    folder that Lightning passes on becomes this job's. `ckpt_path=auto` becomes what it meant here:
    another run may have written a newer checkpoint by the time they look.
    """
    hydra: Any = HydraConfig.get()  # typed HydraConf, in truth a DictConfig
    overrides = [o for o in hydra.overrides.task if not o.startswith("ckpt_path=")]
    found = "null" if checkpoint is None else f"'{checkpoint.absolute()}'"
    # `mmattn train` calls itself that in its messages, but no program has this name.
    program = [sys.argv[0].removesuffix(" train")]
    program += ["train"] if program[0] != sys.argv[0] else []
    sys.argv = [*program, *folder_flags(sys.argv[1:]), *overrides, f"ckpt_path={found}"]
    with read_write(hydra), open_dict(hydra):
        hydra.run.dir = str(folder)


def quiet_other_ranks() -> None:
    """Let rank 0 speak for all: what another rank warns of goes to the log file only."""
    if getattr(rank_zero_only, "rank") == 0:  # noqa: B009 - Lightning sets it on a function
        return
    root = logging.getLogger()
    root.setLevel(logging.WARNING)
    for handler in root.handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.setLevel(logging.ERROR)


def check_ranks(world_size: int) -> None:
    """Raise ConfigError where torchrun started another number of processes than the trainer wants.

    Lightning would find out only in `fit`, and say it in terms of its own.
    """
    started = int(os.environ.get("WORLD_SIZE", world_size))
    if "TORCHELASTIC_RUN_ID" in os.environ and started != world_size:
        raise ConfigError(
            f"torchrun started {started} processes and the trainer wants {world_size}: use "
            "trainer=ddp and leave trainer.devices and trainer.num_nodes to torchrun"
        )
