"""The ranks that rank 0 has started: how each of them ended, and an end to those that do not."""

import logging
import os
import signal
import threading
import time
from collections.abc import Mapping
from subprocess import Popen

from mmattn.training.stopping.stop_request import SIGNALS

log = logging.getLogger(__name__)

# The exit codes of a rank that did not fail: done, or stopped by a signal in good order.
IN_ORDER = (0, *(128 + number for number in SIGNALS))
GRACE = 30.0  # seconds for a rank to notice by itself that another one has failed
LINGER = 60.0  # seconds for a rank to finish after rank 0
OFTEN = 0.1  # seconds between two looks


class RankError(RuntimeError):
    """A rank ended, or answered no more, before the run was over. The message says which."""


class OtherRanks:
    """The processes of the ranks that this process, rank 0 of its machine, has started.

    Args:
        processes: local rank -> its process.
    """

    def __init__(self, processes: Mapping[int, Popen]):
        self.processes = dict(processes)
        self.ended: dict[int, int] = {}  # local rank -> exit code, in the order of their ends
        self.killed: list[int] = []  # the ranks that did not end by themselves
        self._over = threading.Event()

    def look(self) -> dict[int, int]:
        """Return the exit code of each rank that has ended, those that ended first first."""
        for rank, process in self.processes.items():
            code = process.poll()
            if code is not None:
                self.ended.setdefault(rank, code)
        return self.ended

    def watch(self, grace: int | float = GRACE) -> None:
        """Begin to end this process, too, where a rank fails and this one does not notice.

        It mostly does: its connection breaks, and an exception says so. But it may wait for that
        rank to appear at all, or be busy elsewhere.
        """
        threading.Thread(target=self._watch, args=(grace,), daemon=True).start()

    def _watch(self, grace: int | float) -> None:
        while not self._over.wait(OFTEN):
            if all(code in IN_ORDER for code in self.look().values()):
                continue
            if not self._over.wait(grace):
                self.kill()
                log.error("%s; rank 0 did not notice in %.0f s, and is ended", self.what(), grace)
                logging.shutdown()
                os._exit(1)

    def end(self, limit: int | float) -> None:
        """Wait for `limit` seconds until all have ended; kill the rest."""
        self._over.set()
        last = time.monotonic() + limit
        while len(self.look()) < len(self.processes) and time.monotonic() < last:
            time.sleep(OFTEN)
        self.kill()

    def kill(self) -> None:
        """Kill those that still run."""
        self.killed += [rank for rank in self.processes if rank not in self.look()]
        for rank in self.killed:
            self.processes[rank].kill()
            self.processes[rank].wait()

    def failed(self) -> bool:
        """Whether a rank did not end by itself, or not in good order."""
        return bool(self.killed) or any(code not in IN_ORDER for code in self.look().values())

    def what(self) -> str:
        """Say how each rank ended, the first of them first."""
        hung = [f"rank {rank} did not end by itself and was killed" for rank in self.killed]
        ended = [f"rank {rank} {self._how(rank, code)}" for rank, code in self.ended.items()]
        return "; ".join([*hung, *ended])

    def _how(self, rank: int, code: int) -> str:
        if code >= 0:
            return f"ended with exit code {code}"
        name = signal.Signals(-code).name
        cause = " (the kernel does that where memory runs out)" if code == -signal.SIGKILL else ""
        return f"(process {self.processes[rank].pid}) was ended by {name}{cause}"
