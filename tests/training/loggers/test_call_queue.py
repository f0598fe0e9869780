import threading

from mmattn.training.loggers.call_queue import CallQueue, waited


def test_calls_are_done_in_their_order_in_one_thread_which_is_not_this_one():
    calls, done = CallQueue(), []
    for i in range(50):
        assert calls.put(lambda i=i: done.append((i, threading.get_ident(), calls.inside)))
    assert calls.wait(lambda: None, 60.0)
    assert [i for i, _, _ in done] == list(range(50))
    (thread,) = {thread for _, thread, _ in done}
    assert thread != threading.get_ident()
    assert all(inside for *_, inside in done)
    assert not calls.inside


def test_whoever_hands_over_does_not_wait_for_a_call_that_hangs():
    calls, free = CallQueue(most=3), threading.Event()
    began = threading.Event()
    calls.put(lambda: (began.set(), free.wait()))
    assert began.wait(60)
    assert [calls.put(lambda: None) for _ in range(5)] == [True] * 3 + [False] * 2
    assert not calls.wait(lambda: None, 0.05)  # no room
    free.set()


def test_waiting_ends_where_the_call_does_not():
    calls, free = CallQueue(), threading.Event()
    assert not calls.wait(free.wait, 0.05)
    free.set()
    assert calls.wait(lambda: None, 60.0)


def test_waiting_ends_with_a_call_even_one_that_raises():
    event = threading.Event()
    assert not waited(event, 0.01)
    event.set()
    assert waited(event, 0.0)
