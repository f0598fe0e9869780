"""How a run that was started once becomes several processes, and how all of them end."""

import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from torch import distributed
from torch.distributed import DistError

from mmattn.training.processes.orphans import LAUNCHER
from mmattn.training.processes.other_ranks import GRACE, LINGER, OtherRanks, RankError
from mmattn.training.processes.rendezvous import listen, meet
from mmattn.training.stopping.stop_request import REQUEST

LEAVING = "leave-group"  # the thread that does
# What the back ends say, in plain RuntimeErrors, where another rank is gone or silent.
LOST = re.compile(r"\bgloo/|\bNCCL\b|^Application timeout caused pair closure")


class Launcher(_SubprocessScriptLauncher):
    """Lightning's own, and besides: ranks that end together, at a port that nobody can take.

    Lightning leaves ranks behind where rank 0 ends first, and kills rank 0 without a word of which
    rank was the reason.
    """

    others: OtherRanks | None = None
    _listening: socket.socket | None = None

    def launch(self, function: Callable, *args: Any, trainer: Any = None, **kwargs: Any) -> Any:
        """Start the other ranks of this machine, once, and call the function as one of them."""
        if not self.cluster_environment.creates_processes_externally:
            self._call_children_scripts()
            # From here on Lightning finds LOCAL_RANK in the environment, and starts none itself.
            self.others = OtherRanks(dict(enumerate(self.procs, start=1)))
            self.others.watch()
        return super().launch(function, *args, trainer=trainer, **kwargs)

    def _call_children_scripts(self) -> None:
        if self.cluster_environment.node_rank() == 0:
            self._listening = listen(self.num_nodes)
        os.environ[LAUNCHER] = str(os.getpid())
        try:
            super()._call_children_scripts()
        finally:
            del os.environ[LAUNCHER]

    def join(
        self, backend: str, rank: int, size: int, timeout: timedelta, device: torch.device
    ) -> None:
        """Make this process one of the group, where it, or this launcher in rank 0, started it.

        Nothing where another program did, torchrun or srun: Lightning then knows where to meet.
        """
        ours = self.others is not None or LAUNCHER in os.environ
        if distributed.is_initialized() or not ours:
            return
        listening, self._listening = self._listening, None
        store = meet(listening, rank, size)
        distributed.init_process_group(
            backend,
            store=store,
            rank=rank,
            world_size=size,
            timeout=timeout,
            device_id=None if device.type == "cpu" else device,
        )


@contextmanager
def end_together(launcher: object) -> Iterator[None]:
    """End every rank that was started in this block with it, whatever its end is.

    Args:
        launcher: the trainer's, which may be none of ours.

    Raises:
        RankError: another rank is the reason for an exception here, or failed by itself.
    """
    try:
        yield
    except Exception as error:
        others = started(launcher)
        if others is None:
            raise
        # Where the fault is ours, the others wait for us in vain.
        others.end(GRACE if lost_contact(error) else 0)
        leave_group(GRACE)  # of which nobody else is left
        if lost_contact(error):
            raise RankError(f"{others.what()}; all ranks have ended") from error
        raise
    except BaseException:  # stopped: so are the others, in their own time
        if (others := started(launcher)) is not None:
            if REQUEST.deferred:  # at the same step
                leave_group(GRACE)
            others.end(GRACE)
            leave_group(GRACE)
        raise
    if (others := started(launcher)) is not None:
        leave_group(LINGER)
        others.end(LINGER)
        if others.failed():
            raise RankError(f"{others.what()}, while rank 0 has done its work")


def leave_group(limit: int | float) -> None:
    """Take part in the end of the process group, for `limit` seconds at most.

    NCCL ends on all GPUs of a machine together: ranks that are done would wait for this one, and it
    for their end. A rank that hangs must not keep this one, so a thread of its own does it; a group
    that did not end in time is given up.
    """
    given_up = any(thread.name == LEAVING for thread in threading.enumerate())
    if distributed.is_initialized() and not given_up:
        destroy = distributed.destroy_process_group
        leaving = threading.Thread(target=destroy, name=LEAVING, daemon=True)
        leaving.start()
        leaving.join(limit)


def started(launcher: object) -> OtherRanks | None:
    """Return the ranks that this process has started; None where it started none."""
    return launcher.others if isinstance(launcher, Launcher) else None


def lost_contact(error: BaseException) -> bool:
    """Whether an error, or what it came from, says that another rank is gone or silent."""
    cause = error.__cause__ or error.__context__
    here = isinstance(error, DistError) or (
        isinstance(error, RuntimeError) and LOST.search(str(error)) is not None
    )
    return here or (cause is not None and lost_contact(cause))
