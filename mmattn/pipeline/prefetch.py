"""Reading and preparing pictures while the model is busy with those before them."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple

from mmattn.errors import DataError
from mmattn.pipeline.pictures import Picture
from mmattn.pipeline.preparation import Prepared


class Ready(NamedTuple):
    """A picture that is ready for the model, or the error that says why it is not."""

    place: int
    name: str
    prepared: Prepared | None
    error: DataError | None = None


def ready(
    pictures: Iterable[Picture],
    prepare: Callable[[Picture], Prepared],
    *,
    threads: int,
    ahead: int,
) -> Iterator[Ready]:
    """Yield pictures in their order, read and prepared by threads while others are computed.

    Args:
        pictures: what to read.
        prepare: reads one; what it raises other than DataError is raised at the picture's place.
        threads: how many read; decoding and resizing leave Python's lock to others.
        ahead: how many pictures may wait for the model, which bounds the memory.
    """

    def make(picture: Picture) -> Ready:
        try:
            return Ready(picture.place, picture.name, prepare(picture))
        except DataError as error:
            return Ready(picture.place, picture.name, None, error)

    pool = ThreadPoolExecutor(threads, thread_name_prefix="mmattn-picture")
    waiting: deque[Future[Ready]] = deque()
    try:
        coming = iter(pictures)
        waiting.extend(pool.submit(make, picture) for picture in islice(coming, ahead))
        while waiting:
            done = waiting.popleft()
            waiting.extend(pool.submit(make, picture) for picture in islice(coming, 1))
            yield done.result()
    finally:  # also where the reader goes away, or Ctrl-C comes
        pool.shutdown(wait=False, cancel_futures=True)


def batched(stream: Iterable[Ready], size: int) -> Iterator[list[Ready]]:
    """Yield batches with `size` readable pictures each, the unreadable ones at their places."""
    batch: list[Ready] = []
    good = 0
    for one in stream:
        batch.append(one)
        good += one.error is None
        if good == size:
            yield batch
            batch, good = [], 0
    if batch:
        yield batch
