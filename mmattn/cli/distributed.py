"""One run, one folder: also where Lightning starts further processes, also inside a sweep."""

import sys
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict, read_write


def one_folder_for_all_processes(folder: Path) -> None:
    """Make the processes that Lightning will start join this job instead of starting their own.

    Lightning starts rank 1, 2, … by running this program's own command again, with
    `hydra.run.dir=<run.dir of the configuration>` behind it. In a sweep that command would start
    the whole sweep again, in every rank. So the command becomes that of this one job, and the
    folder that Lightning passes on becomes this job's.
    """
    hydra: Any = HydraConfig.get()  # typed HydraConf, in truth a DictConfig
    overrides = list(hydra.overrides.task)
    sys.argv = [sys.argv[0], *_flags_with_values(sys.argv[1:]), *overrides]
    with read_write(hydra), open_dict(hydra):
        hydra.run.dir = str(folder)


def _flags_with_values(arguments: list[str]) -> list[str]:
    """Keep the flags that say where the configuration is; drop those that say how to run it."""
    kept = []
    for flag, value in zip(arguments, [*arguments[1:], ""], strict=True):
        if flag in ("--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn"):
            kept += [flag, value]
        elif flag.startswith(("--config-dir=", "--config-path=", "--config-name=")):
            kept.append(flag)
    return kept
