"""What goes wrong in processes that read samples, told as one message where it trains."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import get_worker_info

from mmattn.errors import ConfigError, DataError, ReadError, UserError

SLOTS = 256  # workers that are told apart; more share
# How torch's messages begin where a worker was killed or left, and where none answered in time.
DEAD, SILENT = "DataLoader worker", "DataLoader timed out"


class AtWork:
    """Which sample each worker read last, in memory shared with the workers."""

    def __init__(self):
        self._last = torch.full((SLOTS,), -1, dtype=torch.int64).share_memory_()

    def note(self, index: int) -> None:
        """Say which sample this process is about to read; counts in workers only."""
        worker = get_worker_info()
        if worker is not None:
            self._last[worker.id % SLOTS] = index

    @property
    def indices(self) -> list[int]:
        """The samples, by number, at which the workers are."""
        return sorted(set(self._last[self._last >= 0].tolist()))


@dataclass(frozen=True)
class Caught:
    """A mistake in the input that a worker met: it comes in place of the batch.

    torch would hand over its traceback as the message, where the message is all that is needed.
    """

    error: UserError


class CatchingReader:
    """A data set that is read by workers, which send what is the user's to mend as `Caught`."""

    def __init__(self, dataset: Any):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, items: list[tuple[int, int]]) -> Any:
        """Return the samples of a batch, or what was caught."""
        try:
            return self.dataset.__getitems__(items)
        except UserError as error:
            return Caught(_plain(error))


def _plain(error: UserError) -> UserError:
    """Return the same mistake as an object that any process can be sent, whatever it carried."""
    kinds = (ConfigError, ReadError, DataError)
    kind = next((kind for kind in kinds if isinstance(error, kind)), UserError)
    return kind(str(error))


def collated(collate_fn: Callable[[list[Any]], Any], samples: Any) -> Any:
    """Return the batch of some samples; what was caught passes."""
    return samples if isinstance(samples, Caught) else collate_fn(samples)


@contextmanager
def worker_faults(dataset: Any) -> Iterator[None]:
    """Raise DataError where a worker of `dataset` dies, or hangs, as its batch is waited for."""
    try:
        yield
    except RuntimeError as error:
        told = told_of(error, dataset)
        if told is None:
            raise
        raise DataError(told) from error


def told_of(error: BaseException, dataset: Any) -> str | None:
    """Return what a user can do about a worker that died or hangs; None for any other error."""
    said = str(error)
    if not isinstance(error, RuntimeError) or not said.startswith((DEAD, SILENT)):
        return None
    reading = _names(dataset)
    what = (
        "a process that reads samples has died, most likely killed as memory ran out: lower "
        "data.loader.num_workers or prefetch_factor"
        if said.startswith(DEAD)
        else "the processes that read samples gave no batch in time: see whether the disk of the "
        "data answers, or raise data.loader.timeout"
    )
    return f"{what}, and go on with ckpt_path=auto. They were at {reading}. torch says: {said}"


def _names(dataset: Any) -> str:
    """Return the names of the samples that the workers were reading."""
    at_work = getattr(dataset, "at_work", None)
    if at_work is None or not at_work.indices:
        return "samples that are not known"
    return ", ".join(repr(dataset.dataset.key(index)) for index in at_work.indices)
