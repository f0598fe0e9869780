"""Weights & Biases in a run that does not depend on it: away, lost, killed or hanging.

What it cannot send stays on disk, and the line that uploads it later is printed at the end.
"""

import functools
import logging
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from shlex import quote
from typing import Any

import wandb
from lightning.pytorch.loggers import WandbLogger
from wandb.sdk import wandb_setup

from mmattn.errors import one_line
from mmattn.training.loggers.continued_logs import WANDB_RUNS, WandbRun
from mmattn.training.loggers.logger_guard import LoggerGuard

log = logging.getLogger(__name__)
GRACE = 30.0  # seconds beyond W&B's own limits: to try offline, to end its service
ENDING = 5.0  # seconds at most that a killed process may take to be gone
SERVICE = "wandb-core"  # the process through which W&B's library does everything
# Each of them takes a step of W&B's, by way of `log_metrics`.
STEPS = ("log_metrics", "log_image", "log_text", "log_table", "log_audio", "log_video")


class WandbGuard(LoggerGuard):
    """Keeps a W&B run going: offline, if need be.

    A server that cannot be reached, or refuses the key, makes the run an offline one; so does a
    service that died in the middle, from there on, under the same id.

    Args:
        logger: not begun yet.
        timeout: seconds, for W&B's start and for its last uploads; W&B's own variables
            WANDB_INIT_TIMEOUT and WANDB_FINISH_TIMEOUT, and its `settings`, count more.
    """

    logger: WandbLogger

    def __init__(self, logger: WandbLogger, timeout: float):
        super().__init__(logger, timeout)
        self._patience = timeout + GRACE
        self._values: dict[str, Any] = {}
        self.folders: list[Path] = []  # of the run; a second one where its service died
        self._unsent = self._begun_anew = False
        self._ending = False  # from here on nothing is begun anew
        known = WANDB_RUNS.get(logger)
        self._logged = known.step if known else 0  # without the calls that wait
        logger._wandb_init["settings"] = with_limits(logger._wandb_init.get("settings"), timeout)

    def start(self, values: Mapping[str, Any]) -> bool:
        """Begin the run, offline if its server cannot be had; whether there is one."""
        self._values = dict(values)
        begun = super().start(values)
        if not begun:
            self._ending = True
            self._end_late_service()
        return begun

    def end(self, failed: bool) -> None:
        """Finish the run in bounded time, and print how to upload what is on disk only."""
        self._ending = True
        finish = functools.partial(self._try, lambda: self._finish(int(failed)), "could not finish")
        if not self._wait(finish, self._patience):
            self._unsent = True
        self._end_late_service()
        if self.folders and (self._unsent or self.logger._offline):
            print(f"upload           wandb sync {' '.join(quote(str(f)) for f in self.folders)}")

    def _begin(self) -> None:
        try:
            self._open()
        except Exception as error:  # of W&B, of the network, of a disk
            if self.logger._offline or self._ending:
                raise
            log.warning(
                "W&B cannot be used online (%s: %s): this run is recorded offline",
                *(type(error).__name__, one_line(error)),
            )
            self._go_offline()
            self._open()

    def _open(self) -> None:
        with kept("WANDB_MODE"):  # which WandbLogger sets for all runs to come
            run = self._open_experiment()
        if not getattr(run, "disabled", False):
            self.folders.append(Path(run.dir).parent)
            self._go_on_at_step(run)

    def _go_on_at_step(self, run: Any) -> None:
        """Let a run that was logged to before take no step again: W&B would drop it."""
        known = WANDB_RUNS.setdefault(self.logger, WandbRun(run.id))
        known.id = run.id
        if not self._logged:
            return
        if run.offline:  # else its server knows the step
            run.log({}, step=self._logged)
        else:
            known.step = self._logged = max(self._logged, run.step)

    def _guarded(self, method: Callable[..., Any], name: str) -> Callable[..., None]:
        """Count, besides: what is handed over, and what of it has been logged."""
        guarded = super()._guarded(
            self._counting(method) if name == "log_metrics" else method, name
        )
        if name not in STEPS:
            return guarded

        @functools.wraps(method)
        def counted(*args: Any, **kwargs: Any) -> None:
            known = WANDB_RUNS.get(self.logger)
            assert self._queue is not None
            if known is not None and not self._queue.inside:
                known.step += 1
            guarded(*args, **kwargs)

        return counted

    def _counting(self, log_metrics: Callable[..., Any]) -> Callable[..., None]:
        @functools.wraps(log_metrics)
        def counting(*args: Any, **kwargs: Any) -> None:
            log_metrics(*args, **kwargs)
            self._logged += 1

        return counting

    def _go_offline(self) -> None:
        logger = self.logger
        logger._offline, logger._log_model = True, False  # checkpoints are not kept offline
        logger._wandb_init |= {"mode": "offline", "id": logger.version}
        logger._experiment = None
        wandb.run = None

    def _recovers(self, error: Exception) -> bool:
        """Whether the service has died, for the first time, and an offline run takes over."""
        if not isinstance(error, ConnectionError) or self._ending or self._begun_anew:
            self._unsent |= isinstance(error, (ConnectionError, TimeoutError))
            return False
        self._begun_anew = True
        log.warning(
            "W&B's service has died (%s): this run goes on offline, under the same id",
            one_line(error),
        )
        tear_down()
        try:
            self._go_offline()
            self._open()
            self.logger.log_hyperparams(self._values)
        except Exception as second:
            log.warning("W&B cannot begin anew: %s", one_line(second))
            return False
        return True

    def _end_late_service(self) -> None:
        if self._late:  # a service that hangs would hold up the end of the program, too
            self._over = True
            end_service()

    def _finish(self, exit_code: int) -> None:
        if self.logger._experiment is not None:
            self.logger._experiment.finish(exit_code)


def with_limits(settings: Any, seconds: float) -> Any:
    """Return W&B settings with limits on its start and its end, where nobody else has set them."""
    if settings is not None and not isinstance(settings, dict):
        return settings  # an object of W&B's, by whoever calls this from Python
    limits = {"init_timeout": seconds, "finish_timeout": seconds}
    unset = {k: v for k, v in limits.items() if f"WANDB_{k.upper()}" not in os.environ}
    # Else W&B would end as if all had been uploaded.
    return {**unset, "finish_timeout_raises": True, **(settings or {})}


def end_service() -> None:
    """Kill this process's own W&B service, which no longer answers; only Linux tells which."""
    for pid in children(SERVICE):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    tear_down()


def tear_down() -> None:
    """Let W&B's library forget a service that is dead; it would exit with that one's code.

    The library does not wait for a service that it cannot reach, so that its process would stay in
    the system's table: it is waited for here.
    """
    process = service_process()
    with suppress(Exception, SystemExit):
        wandb.teardown()
    if process is not None:
        with suppress(subprocess.TimeoutExpired):
            process.wait(ENDING)


def service_process() -> subprocess.Popen | None:
    """Return the process of W&B's service, if this process began one; nothing public names it."""
    with suppress(AttributeError):
        return wandb_setup._singleton._connection._proc._process  # pyright: ignore
    return None


def children(name: str) -> list[int]:
    """Return the ids of this process's own running children of that name; none without /proc."""
    found = []
    for path in Path("/proc/self/task").glob("*/children"):
        for pid in path.read_text().split():
            with suppress(OSError):
                # See proc(5): the id, the name in parentheses, and Z for one that has ended.
                stat = Path(f"/proc/{pid}/stat").read_text()
                if f"({name})" in stat and stat.rpartition(")")[2].split()[0] != "Z":
                    found.append(int(pid))
    return found


@contextmanager
def kept(name: str) -> Iterator[None]:
    """Leave a variable of the environment as it was."""
    before = os.environ.get(name)
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before
