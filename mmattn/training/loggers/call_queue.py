"""Calls that a thread does in turn, so that whoever hands them over never waits for them."""

import queue
import threading
from collections.abc import Callable

SLICE = 0.5  # seconds


class CallQueue:
    """A thread that does calls one after another, in the order in which they came.

    It ends with the process, whatever it is doing then.

    Args:
        most: calls that may wait for their turn.
    """

    def __init__(self, most: int = 500):
        self._calls: queue.Queue[Callable[[], None]] = queue.Queue(most)
        self._thread: threading.Thread | None = None

    @property
    def inside(self) -> bool:
        """Whether the one who asks is the thread itself."""
        return threading.current_thread() is self._thread

    def put(self, call: Callable[[], None]) -> bool:
        """Hand over a call, which must not raise; whether there was room for it."""
        self._start()
        try:
            self._calls.put_nowait(call)
        except queue.Full:
            return False
        return True

    def wait(self, call: Callable[[], None], seconds: float) -> bool:
        """Hand over a call and wait for its end; whether it has ended.

        For so long at most, and before that for as long at most until there is room for the call.
        """
        done = threading.Event()

        def with_notice() -> None:
            try:
                call()
            finally:
                done.set()

        self._start()
        try:
            self._calls.put(with_notice, timeout=seconds)
        except queue.Full:
            return False
        return waited(done, seconds)

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="mmattn-logger", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while True:
            self._calls.get()()


def waited(event: threading.Event, seconds: float) -> bool:
    """Wait for an event; whether it came in time.

    In slices: a process that is stopped for minutes, as a scheduler does it, loses one of them and
    not all its patience, while the thread that it waits for stood still as well.
    """
    slices = max(1, round(seconds / SLICE))
    return any(event.wait(seconds / slices) for _ in range(slices))
