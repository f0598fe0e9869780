"""All ranks stop at the same step, whichever of them was asked to."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import count
from typing import Any

import torch
from torch import Tensor, distributed
from torch._C._distributed_c10d import PrefixStore, Store

from mmattn.training.stopping.stop_request import REQUEST, StopRequest

INTERVAL = 0.5  # seconds between two questions, about
LEAVING = 60.0  # seconds that rank 0 may take to leave, besides what its loggers may
MADE = count()  # agreements of this process; ranks make them in the same order


class StopAgreement:
    """Asks all ranks now and then whether one of them was asked to stop.

    The question is an all-reduce of two integers among processes of the CPU (gloo), put after a
    step and answered after the next one, so that nobody waits for it and no GPU is involved. The
    ranks also agree on how many steps later it is put again: about every half second, whether a
    step takes a millisecond or a minute. So the cost does not grow where steps are short, and a
    request is heard within half a second or two steps, whichever is longer.

    In validation ranks may have different numbers of batches, so there no question can be put after
    each: who is asked to stop leaves a word in the ranks' common store, where the others look.

    Args:
        request: what this rank was asked.
        world_size: number of ranks; with one there is nobody to ask.
        timeout: how long to wait for a rank that does not answer; torch's half an hour if None.
    """

    def __init__(self, request: StopRequest, world_size: int, timeout: timedelta | None = None):
        self.request = request
        self.alone = world_size == 1
        self.agreed = False
        self._steps, self._due = 0, 1
        self._asked = self._looked = time.monotonic()
        self._asked_at = 0
        self._pending: tuple[distributed.Work, Tensor] | None = None
        self._told = False
        self._word = f"stop-{next(MADE)}"  # one that no training before this one has left
        self._store = None
        if not self.alone:
            # Typed as perhaps a number.
            self._group: Any = distributed.new_group(backend="gloo", timeout=timeout)
            self._store = run_store()

    @property
    def known(self) -> bool:
        """Whether all ranks know that they are to stop."""
        return self.request.signal is not None if self.alone else self.agreed

    def after_step(self) -> None:
        """Hear the last answer and put the next question; all ranks call it after each step."""
        if self.alone:
            return
        self._steps += 1
        self._answer()
        if self._steps >= self._due and not self.agreed:
            self._ask()

    def at_once(self) -> bool:
        """Ask, wait for the answer and return it; every rank calls it at the same place."""
        if not self.alone and not self.agreed:
            self._answer()
        if not self.alone and not self.agreed:
            self._ask()
            self._answer()
        return self.known

    def rumoured(self) -> bool:
        """Whether a rank was asked to stop, as far as this one can know without the others."""
        if self.request.signal is not None:
            self._tell()
            return True
        now = time.monotonic()
        if self._store is None or now - self._looked < INTERVAL:
            return False
        self._looked = now
        return self._store.check([self._word])

    def _ask(self) -> None:
        now = time.monotonic()
        seconds = max((now - self._asked) / max(self._steps - self._asked_at, 1), 1e-6)
        self._asked, self._asked_at = now, self._steps
        period = max(1, round(INTERVAL / seconds))
        question = torch.tensor([self.request.signal or 0, period])
        work = distributed.all_reduce(
            question, distributed.ReduceOp.MAX, group=self._group, async_op=True
        )
        assert work is not None
        self._pending = work, question

    def _answer(self) -> None:
        if self._pending is None:
            return
        work, answer = self._pending
        self._pending = None
        work.wait()
        stop, period = answer.tolist()
        self._due = self._asked_at + period
        if stop:
            self.agreed = True
            # A rank that nobody signalled ends as the one that was.
            self.request.signal = self.request.signal or stop

    def _tell(self) -> None:
        if self._store is not None and not self._told:
            self._told = True
            self._store.set(self._word, "1")


def run_store() -> Store:
    """Return the store that the ranks of this run share, for words of ours."""
    default = distributed.distributed_c10d._get_default_store()
    return PrefixStore("mmattn", default)


@contextmanager
def rank_0_leaves_first(loggers: int | float) -> Iterator[None]:
    """Where all ranks stop in this block, let rank 0 leave it before the others.

    Whoever started the processes ends all of them when one has ended, and rank 0 may still be
    handing its last figures to a logger. Where it is gone already there is nothing to wait for.

    Args:
        loggers: seconds that the loggers of rank 0 may take to end.
    """
    try:
        yield
    except SystemExit:
        if REQUEST.deferred and distributed.is_available() and distributed.is_initialized():
            with suppress(RuntimeError):  # also what a closed connection and a time-out are
                if distributed.get_rank() == 0:
                    run_store().set("closed", "1")
                else:
                    run_store().wait(["closed"], timedelta(seconds=loggers + LEAVING))
        raise
