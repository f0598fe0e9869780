"""Signals to this process, and to small ones that do not know torch."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mmattn.training.stopping.stop_request import SIGNALS, Stopped, StopRequest

pytestmark = pytest.mark.fault("F8")
REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def request_():
    request = StopRequest()
    with request.installed():
        yield request


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [("SIGTERM", 143, "SIGTERM"), ("SIGINT", 130, "Ctrl-C"), ("SIGUSR1", 138, "SIGUSR1")],
)
def test_a_signal_ends_the_program_with_its_code_where_nothing_is_to_save(
    request_, name, code, said
):
    with pytest.raises(Stopped) as stopped:
        signal.raise_signal(getattr(signal, name))
    assert (stopped.value.code, str(stopped.value)) == (code, said)
    with pytest.raises(Stopped):  # somebody may have swallowed it
        request_.check()


def test_while_training_it_is_remembered(request_):
    request_.deferred = True
    request_.check()
    for name in ("SIGUSR1", "SIGTERM"):  # together: one request, of the first
        signal.raise_signal(getattr(signal, name))
    assert request_.signal == signal.SIGUSR1
    with pytest.raises(Stopped, match="SIGUSR1"):
        request_.check()


def test_the_signals_go_back_to_whom_they_belonged():
    before = [signal.getsignal(number) for number in SIGNALS]
    threads, request = set(threading.enumerate()), StopRequest()
    with request.installed():
        request.install()  # twice is once
        assert signal.getsignal(signal.SIGTERM) == request._received
        (watching,) = set(threading.enumerate()) - threads
    assert [signal.getsignal(number) for number in SIGNALS] == before
    watching.join(60)
    assert not watching.is_alive()


def test_a_thread_cannot_and_need_not_take_them():
    before, request = signal.getsignal(signal.SIGTERM), StopRequest()
    thread = threading.Thread(target=request.install)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is before


STUCK = """
import ctypes, sys
from mmattn.training.stopping.stop_request import StopRequest
request = StopRequest()
request.install()
request.deferred = True
assert "torch" not in sys.modules
print("ready", flush=True)
mutex = ctypes.create_string_buffer(64)
ctypes.CDLL(None).pthread_mutex_lock(mutex)
ctypes.CDLL(None).pthread_mutex_lock(mutex)  # for ever, as without another rank
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs glibc's mutexes")
def test_a_second_signal_ends_even_a_process_that_hangs_in_a_library():
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", STUCK]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            end = time.monotonic() + 60
            while process.poll() is None and time.monotonic() < end:
                process.send_signal(signal.SIGTERM)  # two within a second count as one
                time.sleep(0.2)
            assert process.returncode == 143
            assert process.stderr.read() == "ended at once by a second signal\n"
        finally:
            process.kill()


WORKER = """
import sys, time
from mmattn.data.worker_signals import leave_signals_to_parent
leave_signals_to_parent(0)
print("ready", flush=True)
for line in sys.stdin:
    print("alive", flush=True)
"""


def wait_until_heard(pid):
    """Wait until no signal is pending: two of a kind would be one."""
    status, end = Path(f"/proc/{pid}/status"), time.monotonic() + 60
    while "ShdPnd:\t0000000000000000" not in status.read_text() and time.monotonic() < end:
        time.sleep(0.01)


@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="a signal's sender is not told")
def test_a_process_that_reads_data_outlives_what_stops_the_run_but_not_its_parents_word():
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(
        [sys.executable, "-c", WORKER], text=True, env=environment, **pipes
    ) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            for name in ("INT", "USR1", "INT", "TERM", "TERM"):  # from somebody else
                subprocess.run(["kill", f"-{name}", str(process.pid)], check=True)
                process.stdin.write("\n")
                process.stdin.flush()
                assert process.stdout.readline() == "alive\n"
                wait_until_heard(process.pid)
            process.terminate()
            assert process.wait(60) == 0
            assert process.stderr.read() == ""
        finally:
            process.kill()
