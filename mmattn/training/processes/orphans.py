"""A rank that this program started never outlives it: the operating system sees to that."""

import ctypes
import os
import signal
import sys
import threading
import time

# The process that starts further ranks tells them its number by this variable.
LAUNCHER = "MMATTN_LAUNCHER"
PR_SET_PDEATHSIG = 1  # prctl(2)


def end_with_launcher() -> None:
    """Let this process be killed when the one that launched it ends; nothing if none did.

    A rank whose rank 0 is gone may hang in a collective for ever, and hold its port and its GPU. It
    is killed, not asked to end: it could not finish what it was doing.
    """
    launcher = int(os.environ.get(LAUNCHER, "0"))
    if not launcher:
        return
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    else:
        threading.Thread(target=end_when_adopted, args=(launcher,), daemon=True).start()
    if os.getppid() != launcher:  # it ended before it could be told apart
        os._exit(1)


def end_when_adopted(launcher: int, every: float = 1.0) -> None:
    """End this process within `every` seconds of the moment when `launcher` is not its parent."""
    while os.getppid() == launcher:
        time.sleep(every)
    os._exit(1)
