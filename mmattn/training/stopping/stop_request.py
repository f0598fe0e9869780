"""Asked to stop: SIGTERM, SIGINT and SIGUSR1, and what a process does when it gets one.

A scheduler that wants its machine back sends SIGTERM, Ctrl-C is SIGINT, and SLURM sends SIGUSR1
where a job asks for a warning (`--signal=USR1@90`). While a run trains, a signal is remembered, and
training ends at the next step that can be gone on from. Before and after that there is nothing to
save, and the signal ends the program where it is. A second signal always ends it at once.

The exit code is what a shell reports of a program that the signal ended: 143, 130, 138.
"""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, name)
)
# Ctrl-C and schedulers reach a launcher and its processes alike, and launchers pass on what they
# get: two signals within so many seconds are one request.
TOGETHER = 1.0


class Stopped(SystemExit):
    """Ends the program because of a signal; `code` is the exit code, `name` the signal's."""

    def __init__(self, number: int):
        super().__init__(128 + number)
        self.name = signal.Signals(number).name

    def __str__(self) -> str:
        """Say which signal it was, in words that follow "stopped by"."""
        return "Ctrl-C" if self.name == "SIGINT" else self.name


class StopRequest:
    """Whether this process was asked to stop, and by which signal.

    Attributes:
        signal: the first signal's number; None while there was none.
        deferred: whether a signal is only remembered, because training will see to it.
        requeues: whether the run that the signal ended wants its job to be started anew.
    """

    def __init__(self):
        self.signal: int | None = None
        self.deferred = self.requeues = False
        self._pid = 0
        self._before: dict[int, Any] = {}
        self._first = 0.0

    def install(self) -> None:
        """Take over the signals, in a process's main thread; once is enough."""
        if self._pid == os.getpid() or threading.current_thread() is not threading.main_thread():
            return
        self._pid = os.getpid()
        self.signal, self.deferred, self.requeues = None, False, False
        self._before = {number: signal.signal(number, self._received) for number in SIGNALS}
        self._watch()

    def uninstall(self) -> None:
        """Give the signals back to whom they belonged."""
        if self._pid != os.getpid():
            return
        self._pid = 0
        signal.set_wakeup_fd(-1)
        self._ours.close()  # the watching thread ends with it
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Take over the signals for as long as the block runs."""
        self.install()
        try:
            yield
        finally:
            self.uninstall()

    def check(self) -> None:
        """Raise Stopped where a signal came: also one whose exception somebody swallowed."""
        if self.signal is not None:
            raise Stopped(self.signal)

    def _received(self, number: int, frame: object) -> None:
        # A process that was forked for reading data leaves it to this one.
        if os.getpid() != self._pid or self.signal is not None:
            return
        self.signal = number
        if not self.deferred:
            raise Stopped(number)

    def _watch(self) -> None:
        """Let a thread see every signal, also while the main thread waits inside a library.

        Python runs a handler only between two of the main thread's own instructions, and a rank
        that waits for a lost one may not get to its next.
        """
        theirs, self._ours = socket.socketpair()
        self._ours.setblocking(False)
        signal.set_wakeup_fd(self._ours.fileno(), warn_on_full_buffer=False)
        self._first = 0.0
        threading.Thread(target=self._end_at_second, args=(theirs,), daemon=True).start()

    def _end_at_second(self, wakeups: socket.socket) -> None:
        with wakeups:
            while received := wakeups.recv(1):
                if received[0] in SIGNALS:
                    self._count(received[0])

    def _count(self, number: int) -> None:
        now = time.monotonic()
        self._first = self._first or now
        if now - self._first > TOGETHER:
            with suppress(OSError):
                os.write(2, b"ended at once by a second signal\n")
            os._exit(128 + number)


REQUEST = StopRequest()  # a process has one set of signals
