"""How the processes that read data behave when the whole run gets a signal."""

import multiprocessing
import os
import signal
import threading
import time

IGNORED = ("SIGINT", "SIGUSR1")
LONGEST = 600  # seconds that a run may take to stop


def leave_signals_to_parent(worker_id: int) -> None:
    """Let a reading process outlive the signals that stop a run: it ends when its parent says so.

    Ctrl-C and schedulers signal every process of a run. The training process still needs its
    batches until it has saved, and a worker's death would be an error to it. Its own SIGTERM, by
    which it ends workers at exit, still does.
    """
    signal.set_wakeup_fd(-1)  # it is the parent's, and would tell it of our signals
    for name in IGNORED:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # Linux: only there a signal's sender is told
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        parent = multiprocessing.parent_process()  # who starts it may be a server of its parent's
        told_by = os.getppid() if parent is None else parent.pid
        threading.Thread(target=_end_with_parent, args=(told_by,), daemon=True).start()


def _end_with_parent(parent: int | None) -> None:
    """End when the parent says so, or long after a scheduler has: two words may come as one."""
    sender = signal.sigwaitinfo({signal.SIGTERM}).si_pid
    end = time.monotonic() + LONGEST
    while sender != parent and (left := end - time.monotonic()) > 0:
        told = signal.sigtimedwait({signal.SIGTERM}, left)
        sender = sender if told is None else told.si_pid
    os._exit(0)
