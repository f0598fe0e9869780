"""`python train.py` and `mmattn train`: compose the configuration, then hand over to the run."""

import logging
import os
import sys
from pathlib import Path
from typing import NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from mmattn.cli import schema
from mmattn.cli.command_line import flags_first, long_names, sets_key
from mmattn.cli.hydra_parts import check_hydra_parts
from mmattn.cli.plain_command import mistakes_in_one_line
from mmattn.cli.run_lock import other_rank, run_lock
from mmattn.cli.streams import print_anything
from mmattn.cli.suggest import explain
from mmattn.errors import UserError, one_line
from mmattn.training.processes.orphans import end_with_launcher
from mmattn.training.stopping.requeue import requeued_at_end
from mmattn.training.stopping.stop_request import REQUEST, Stopped

log = logging.getLogger(__name__)
MISTAKES = (UserError, HydraException, OmegaConfBaseException)

schema.register()


@hydra.main(version_base="1.3", config_path=str(schema.config_dir()), config_name="train")
def train(config: DictConfig) -> float | None:
    """Run one job: a run, or one point of a sweep, which goes on after a point that failed."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        with requeued_at_end(REQUEST), run_lock(folder):
            return job(config, folder)
    except Exception as error:
        if REQUEST.signal is not None:  # it ends a sweep as a whole, whatever it made fail
            log.error("%s: failed while it was to stop: %s", folder, one_line(error))
            REQUEST.check()
        if HydraConfig.get().mode == RunMode.RUN:
            end(error)  # here, for Hydra would first repeat the whole command line
        if isinstance(error, MISTAKES):
            log.error("%s: %s", folder, message(error))
            raise
        log.error("%s: this point of the sweep failed", folder, exc_info=error)
        raise RuntimeError(f"{folder}: this point of the sweep failed") from error


def job(config: DictConfig, folder: Path) -> float | None:
    """Run the job, once the configuration may be used."""
    if config.allow_targets and not sets_key(sys.argv[1:], "allow_targets"):
        raise UserError("allow_targets counts on the command line only, not in a file")
    from mmattn.cli.run import run  # torch and Lightning: only once the configuration is right

    return run(config, folder)


def main() -> None:
    """Run Hydra; a mistake in the input is one line and exit code 2.

    Hydra prints its own errors and exits with 1 unless it is asked for the exception itself.
    """
    end_with_launcher()
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    sys.argv[1:] = long_names(flags_first(sys.argv[1:]))
    print_anything()
    check_hydra_parts()
    with mistakes_in_one_line(), REQUEST.installed():
        try:
            train()
        except Stopped as stopped:
            if not (REQUEST.deferred or other_rank()):  # else it was said, with where it goes on
                print(f"stopped by {stopped}", file=sys.stderr)
            raise
        # Hydra's own, all of them: what a job raises does not get here, but mistakes in a sweep.
        except MISTAKES as error:
            end(error)
        except ValueError as error:
            end(UserError(message(error)))
        except BrokenPipeError:
            raise
        except OSError as error:
            no_folder = f"cannot make the run directory ({error})"
            end(UserError(f"{no_folder}: choose another paths.log_dir=…"))


def end(error: Exception) -> NoReturn:
    """Say what went wrong, and end the program: 2 after a mistake (or as it says), 1 a failure."""
    told = (os.environ.get(name) for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))
    rank = int(next(filter(None, told), "0"))
    where = f" on rank {rank}" * bool(rank)
    if isinstance(error, MISTAKES) and os.environ.get("MMATTN_TRACEBACK") != "1":
        print(f"error{where}: {message(error)}", file=sys.stderr)
        raise SystemExit(getattr(error, "exit_code", 2))
    log.error("the run failed%s", where, exc_info=error)
    raise SystemExit(1)


def message(error: Exception) -> str:
    """Return what there is to say about a mistake, in one line."""
    if isinstance(error, UserError):
        return str(error)
    return explain(error, schema.config_dir(), sys.argv[1:])
