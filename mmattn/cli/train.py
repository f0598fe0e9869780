"""`python train.py` and `mmattn train`: compose the configuration, then hand over to the run."""

import os
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from mmattn.cli import schema
from mmattn.cli.suggest import explain
from mmattn.errors import UserError

schema.register()


@hydra.main(version_base="1.3", config_path=str(schema.config_dir()), config_name="train")
def train(config: DictConfig) -> float | None:
    """Run one job: a run, or one point of a sweep."""
    if schema.command_line_value("allow_targets") is False and config.allow_targets:
        raise UserError("allow_targets counts on the command line only, not in a file")
    from mmattn.cli.run import run  # torch and Lightning: only once the configuration is right

    return run(config, Path(HydraConfig.get().runtime.output_dir))


def main() -> None:
    """Run Hydra; a mistake in the input is one line and exit code 2.

    Hydra prints its own errors and exits with 1 unless it is asked for the exception itself.
    """
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    try:
        train()
    except (HydraException, OmegaConfBaseException) as error:
        _stop(explain(error, schema.config_dir()))
    except UserError as error:
        _stop(str(error))


def _stop(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)
