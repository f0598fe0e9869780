"""Reading and preparing pictures while the model is busy with those before them."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from threading import Barrier
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch

from mmattn.errors import DataError
from mmattn.pipeline.pictures import Unreadable


@runtime_checkable
class Waiting(Protocol):
    """What can be prepared: a picture, or a question about one."""

    @property
    def name(self) -> str:
        """What messages call it."""
        ...

    @property
    def place(self) -> int:
        """Its place among all of a job."""
        ...


class Ready(NamedTuple):
    """A picture, or a question about one, that is ready for the model."""

    place: int
    name: str
    prepared: Any  # what `prepare` returned


Prefetched = Ready | Unreadable
W = TypeVar("W", bound=Waiting)


def ready(
    pictures: Iterable[W],
    prepare: Callable[[W], Any],
    *,
    threads: int,
    ahead: int,
) -> Generator[Prefetched, None, None]:
    """Yield pictures in their order, read and prepared by threads while others are computed.

    Args:
        pictures: what to read.
        prepare: reads one; what it raises other than DataError is raised at the picture's place.
        threads: how many read; decoding and resizing leave Python's lock to others.
        ahead: how many pictures may wait for the model, which bounds the memory.
    """

    def make(picture: W) -> Prefetched:
        try:
            return Ready(picture.place, picture.name, prepare(picture))
        except DataError as error:
            return Unreadable(picture.name, error)

    def submitted() -> Iterator[Future[Prefetched]]:
        try:
            for picture in pictures:
                yield pool.submit(make, picture)
        except Exception as error:  # of where the pictures come from: what came before is in order
            failed: Future[Prefetched] = Future()
            failed.set_exception(error)
            yield failed

    pool = serial_threads(threads)
    coming = submitted()
    waiting: deque[Future[Prefetched]] = deque()
    try:
        waiting.extend(islice(coming, ahead))
        while waiting:
            done = waiting.popleft()
            waiting.extend(islice(coming, 1))
            yield done.result()
    finally:  # also where the reader goes away, or Ctrl-C comes
        pool.shutdown(wait=False, cancel_futures=True)


def computed(
    pictures: Iterable[W],
    prepare: Callable[[W], Any],
    compute: Callable[[list[Ready]], Iterable[Any]],
    *,
    batch_size: int,
    threads: int,
) -> Generator[Any, None, None]:
    """Yield the result of each picture, or an `Unreadable`, in their order.

    Only a few pictures are held at a time.

    Args:
        pictures: what to read.
        prepare: reads one, see `ready`.
        compute: makes of the readable pictures of a batch as many results.
        batch_size: pictures computed at once.
        threads: how many read pictures while the model is busy.
    """
    ahead = ahead_of(batch_size, threads)
    with closing(ready(pictures, prepare, threads=threads, ahead=ahead)) as stream:
        for batch in batched(stream, batch_size):
            readable = [one for one in batch if isinstance(one, Ready)]
            results = iter(compute(readable) if readable else [])
            yield from (next(results) if isinstance(one, Ready) else one for one in batch)


def ahead_of(batch_size: int, threads: int) -> int:
    """Return how many pictures may wait for a model."""
    return 2 * batch_size + threads


def serial_threads(count: int) -> ThreadPoolExecutor:
    """Return a pool of threads, in each of which torch computes with that thread alone.

    OpenMP would give each of them a team of its own. With more threads in teams than there are
    cores, those that compute the model sleep between any two of its many short loops instead of
    waiting awake, and the model takes half as long again (width 192, 2 cores).
    """
    threads, begun = torch.get_num_threads(), Barrier(count + 1)

    def compute_alone() -> None:
        torch.get_num_threads()  # a thread's first question to torch sets the number for all
        torch.set_num_threads(1)
        begun.wait()

    pool = ThreadPoolExecutor(count, "mmattn-picture", initializer=compute_alone)
    try:
        for _ in range(count):  # none is idle before all have begun: each begins another
            pool.submit(int)
        begun.wait()
    except BaseException:  # Ctrl-C, too: nobody waits for the others for ever
        begun.abort()
        pool.shutdown(wait=False)
        raise
    finally:
        torch.set_num_threads(threads)  # what is not a thread's own, which is the number in MKL
    return pool


def batched(stream: Iterable[Prefetched], size: int) -> Iterator[list[Prefetched]]:
    """Yield batches of up to `size` readable pictures, the unreadable ones at their places.

    What came before a failure of `stream` is yielded before that is raised.
    """
    batch: list[Prefetched] = []
    good = 0
    try:
        for one in stream:
            batch.append(one)
            good += isinstance(one, Ready)
            # Errors are told soon: none waits for more than a few batches of pictures.
            if good in (0, size) or len(batch) == 4 * size:
                yield batch
                batch, good = [], 0
    except Exception:
        if batch:
            yield batch
        raise
    if batch:
        yield batch
