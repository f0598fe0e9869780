"""Reading ahead: in order, bounded, errors at their places, and no thread stays behind."""

import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from mmattn.errors import DataError
from mmattn.pipeline.pictures import Picture, Unreadable
from mmattn.pipeline.prefetch import Ready, batched, ready, serial_threads
from mmattn.pipeline.preparation import Prepared


def prepared(value: int) -> Prepared:
    return Prepared(torch.full((3, 1, 1), float(value)), None)


def made(value, bad=(), seconds=0.0):
    """A picture that takes a while, or cannot be read."""

    def read():
        time.sleep(seconds)
        if value in bad:
            raise DataError(f"picture {value} is bad")
        return torch.full((3, 1, 1), value, dtype=torch.uint8)

    return Picture(str(value), read, value)


def prepare(picture):
    return prepared(int(picture.read().max()))


def threads():
    return [t for t in threading.enumerate() if t.name.startswith("mmattn-picture")]


def none_left(seconds=5.0):
    """Wait until no thread reads."""
    until = time.monotonic() + seconds
    while threads() and time.monotonic() < until:
        time.sleep(0.01)
    return not threads()


def values(found):
    return [int(one.prepared.pixels.max()) if isinstance(one, Ready) else one.name for one in found]


@pytest.mark.parametrize("count", [1, 3])
def test_order_is_kept_whatever_takes_longest(count):
    delays = np.random.default_rng(0).random(20) / 100
    several = [made(i, seconds=delays[i]) for i in range(20)]
    assert values(ready(several, prepare, threads=count, ahead=5)) == list(range(20))
    assert none_left()


@pytest.mark.parametrize("ahead", [1, 4, 50])
def test_no_more_pictures_are_read_than_may_wait(ahead):
    asked, taken, early = 0, 0, []

    def several():
        nonlocal asked
        for i in range(40):
            asked += 1
            early.append(asked - taken)
            yield made(i)

    for _ in ready(several(), prepare, threads=2, ahead=ahead):
        taken += 1
    assert (asked, taken) == (40, 40)
    assert max(early) <= min(ahead, 40) + 1  # and the one that is handed over meanwhile


def test_errors_are_at_their_places():
    several = [made(i, bad=(0, 3, 4, 9)) for i in range(10)]
    found = list(ready(several, prepare, threads=3, ahead=4))
    assert values(found) == ["0", 1, 2, "3", "4", 5, 6, 7, 8, "9"]
    assert [str(one.error) for one in found if isinstance(one, Unreadable)] == [
        f"picture {i} is bad" for i in (0, 3, 4, 9)
    ]


def test_a_mistake_of_the_program_comes_at_its_place_and_ends_all():
    def wrong(picture):
        if picture.place == 2:
            raise RuntimeError("a bug")
        return prepare(picture)

    found = ready(map(made, range(100)), wrong, threads=2, ahead=6)
    assert values([next(found), next(found)]) == [0, 1]
    with pytest.raises(RuntimeError, match="a bug"):
        next(found)
    assert none_left()


def test_a_failure_of_where_the_pictures_come_from_comes_behind_those_before_it():
    def several():
        yield from map(made, range(3))
        raise OSError("the camera is gone")

    found = ready(several(), prepare, threads=2, ahead=10)
    assert values([next(found) for _ in range(3)]) == [0, 1, 2]
    with pytest.raises(OSError, match="the camera is gone"):
        next(found)
    batches = batched(ready(several(), prepare, threads=2, ahead=10), 2)
    assert values(next(batches)) == [0, 1]
    assert values(next(batches)) == [2]
    with pytest.raises(OSError, match="the camera is gone"):
        next(batches)
    assert none_left()


def test_a_reader_that_goes_away_leaves_no_thread_and_nothing_waiting():
    read = []

    def slowly(picture):
        read.append(picture.place)
        time.sleep(0.02)
        return prepare(picture)

    found = ready(map(made, range(10**9)), slowly, threads=2, ahead=50)
    next(found)
    found.close()
    assert none_left()
    assert len(read) < 10  # of the 50 that waited those that were being read were finished
    found = ready(map(made, range(10**9)), slowly, threads=2, ahead=50)
    next(found)
    del found  # as where a loop is left
    gc.collect()
    assert none_left()


def test_nothing_is_read_before_it_is_asked_for():
    def never():
        raise AssertionError
        yield

    ready(never(), prepare, threads=2, ahead=5)
    assert not threads()


def test_no_picture_is_no_batch():
    assert list(batched(ready([], prepare, threads=1, ahead=1), 3)) == []
    assert none_left()


def stream(bad, count):
    several = [made(i, bad=bad) for i in range(count)]
    return ready(several, prepare, threads=1, ahead=3)


@pytest.mark.parametrize(
    ("bad", "size", "batches"),
    [
        ((), 2, [[0, 1], [2, 3], [4]]),
        ((1,), 2, [[0, "1", 2], [3, 4]]),
        ((0, 1), 2, [["0"], ["1"], [2, 3], [4]]),  # told at once
        ((4,), 2, [[0, 1], [2, 3], ["4"]]),
        ((0, 1, 2, 3, 4), 3, [["0"], ["1"], ["2"], ["3"], ["4"]]),
        ((), 9, [[0, 1, 2, 3, 4]]),
        ((), 1, [[0], [1], [2], [3], [4]]),
    ],
)
def test_batches_are_full_and_bad_pictures_do_not_count(bad, size, batches):
    assert [values(batch) for batch in batched(stream(bad, 5), size)] == batches


def test_bad_pictures_do_not_wait_for_a_full_batch_for_ever():
    sizes = [len(batch) for batch in batched(stream(range(1, 30), 30), 2)]
    assert max(sizes) == 8


def test_torch_computes_alone_in_a_reading_thread_and_as_before_elsewhere():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with serial_threads(3) as pool:
            found = [pool.submit(torch.get_num_threads) for _ in range(9)]
            assert {one.result() for one in found} == {1}
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_threads_that_cannot_all_begin_are_let_go(monkeypatch):
    before, submit = torch.get_num_threads(), ThreadPoolExecutor.submit

    def interrupted(pool, *arguments):
        if pool._threads:
            raise KeyboardInterrupt
        return submit(pool, *arguments)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        serial_threads(2)
    assert torch.get_num_threads() == before
    deadline = time.monotonic() + 10
    while threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not threads()
