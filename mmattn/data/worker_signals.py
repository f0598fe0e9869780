"""How the processes that read data behave when the whole run gets a signal."""

import os
import signal
from types import FrameType

IGNORED = ("SIGINT", "SIGUSR1")


def leave_signals_to_parent(worker_id: int) -> None:
    """Let a reading process outlive the signals that stop a run: it ends when its parent does.

    Ctrl-C and schedulers signal every process of a run. The training process still needs its
    batches until it has saved, and a worker's death would be an error to it.

    SIGTERM is ignored once: the second one is that of the parent, which ends a worker that hangs.
    """
    signal.set_wakeup_fd(-1)  # it is the parent's, and would tell it of our signals
    for name in IGNORED:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _first)


def _first(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, _second)


def _second(number: int, frame: FrameType | None) -> None:
    os._exit(0)
