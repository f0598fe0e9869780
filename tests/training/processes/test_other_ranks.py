import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest
from torch.distributed import DistBackendError

from mmattn.training.processes import launcher
from mmattn.training.processes.launcher import Launcher, end_together
from mmattn.training.processes.other_ranks import OtherRanks, RankError

pytestmark = pytest.mark.fault("F10")
LOST = "[gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:19328"
ENDS = {"well": "exit 0", "badly": "exit 3", "killed": "kill -9 $$", "never": "exec sleep 100"}


@pytest.fixture
def others():
    """Make ranks that end in some way each; none is left behind."""
    made = []

    def make(*ends):
        started = [subprocess.Popen(["sh", "-c", ENDS[end]]) for end in ends]
        made.extend(started)
        return OtherRanks(dict(enumerate(started, 1)))

    yield make
    for process in made:
        process.kill()
        process.wait()


@pytest.fixture
def launcher_of():
    def make(others):
        started = Launcher.__new__(Launcher)
        started.others = others
        return started

    return make


@pytest.mark.parametrize(
    ("ends", "failed", "said"),
    [
        (["well"], False, "rank 1 ended with exit code 0"),
        (["badly"], True, "rank 1 ended with exit code 3"),
        (["killed"], True, "was ended by SIGKILL (the kernel does that where memory runs out)"),
        (["well", "never"], True, "rank 2 did not end by itself and was killed; rank 1 ended"),
    ],
)
def test_it_is_said_which_rank_ended_how(others, ends, failed, said):
    ranks = others(*ends)
    until(lambda: len(ranks.look()) == len(ends) - ends.count("never"))
    ranks.end(0)
    assert ranks.failed() is failed
    assert said in ranks.what()
    assert all(process.poll() is not None for process in ranks.processes.values())


def test_a_rank_may_be_stopped_in_good_order():
    codes = {1: 143, 2: 130, 3: 138, 4: 0}
    ranks = OtherRanks({})
    ranks.ended = codes
    assert not ranks.failed()


def test_a_lost_rank_is_the_reason_of_the_exception_here(others, launcher_of):
    ranks = others("killed")
    with pytest.raises(RankError, match=r"rank 1 \(process \d+\) was ended by SIGKILL") as caught:  # noqa: SIM117
        with end_together(launcher_of(ranks)):
            raise RuntimeError(LOST)
    assert str(caught.value.__cause__) == LOST


def test_what_only_sounds_like_a_lost_rank_is_no_reason_to_blame_one():
    assert not launcher.lost_contact(RuntimeError("DataLoader timed out after 60 seconds"))
    assert not launcher.lost_contact(ConnectionResetError("Connection reset by peer"))
    assert launcher.lost_contact(DistBackendError("NCCL error"))
    assert launcher.lost_contact(RuntimeError("Application timeout caused pair closure"))


def test_a_silent_rank_is_killed_and_named(others, launcher_of, monkeypatch):
    monkeypatch.setattr(launcher, "GRACE", 0.2)
    ranks = others("never")
    error = RuntimeError("optimizer")
    error.__cause__ = RuntimeError("[gloo/transport] Timed out waiting 60000ms for recv operation")
    with pytest.raises(RankError, match="rank 1 did not end by itself"):  # noqa: SIM117
        with end_together(launcher_of(ranks)):
            raise error
    assert ranks.processes[1].poll() == -signal.SIGKILL


def test_a_mistake_of_rank_0_is_its_own_and_ends_all_at_once(others, launcher_of):
    ranks, start = others("never"), time.monotonic()
    with pytest.raises(ValueError, match=r"^mine$"), end_together(launcher_of(ranks)):
        raise ValueError("mine")
    assert ranks.processes[1].poll() is not None
    assert time.monotonic() - start < launcher.GRACE / 2


def test_who_stops_a_run_stops_all_ranks(others, launcher_of, monkeypatch):
    monkeypatch.setattr(launcher, "GRACE", 0.2)
    ranks = others("never")
    with pytest.raises(SystemExit), end_together(launcher_of(ranks)):
        raise SystemExit(143)
    assert ranks.processes[1].poll() is not None


@pytest.mark.parametrize(("end", "fails"), [("well", False), ("badly", True)])
def test_a_run_is_done_when_all_ranks_are(others, launcher_of, end, fails):
    ranks = others(end)
    if not fails:
        with end_together(launcher_of(ranks)):
            pass
        return
    with pytest.raises(RankError, match="rank 1 ended with exit code 3, while rank 0 has done"):  # noqa: SIM117
        with end_together(launcher_of(ranks)):
            pass


@pytest.mark.parametrize("stopped", [True, False])
def test_the_group_is_left_before_the_others_are_waited_for(
    others, launcher_of, monkeypatch, stopped
):
    did, ranks = [], others("well")
    monkeypatch.setattr(launcher.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(
        launcher.distributed, "destroy_process_group", lambda: did.append("group left")
    )
    monkeypatch.setattr(launcher.REQUEST, "deferred", stopped)
    end = ranks.end
    monkeypatch.setattr(ranks, "end", lambda limit: (did.append("waited"), end(limit)))
    with suppress(SystemExit), end_together(launcher_of(ranks)):
        if stopped:
            raise SystemExit(143)
    assert did[:2] == ["group left", "waited"]


@pytest.mark.parametrize("error", [SystemExit(143), ValueError("mine")])
def test_who_ends_alone_leaves_the_group_when_nobody_else_is_left(
    others, launcher_of, monkeypatch, error
):
    monkeypatch.setattr(launcher.distributed, "is_initialized", lambda: True)
    did, ranks = [], others("well")
    end = ranks.end
    monkeypatch.setattr(ranks, "end", lambda limit: (did.append("waited"), end(limit)))
    monkeypatch.setattr(
        launcher.distributed, "destroy_process_group", lambda: did.append("group left")
    )
    with pytest.raises(type(error)), end_together(launcher_of(ranks)):
        raise error
    assert did == ["waited", "group left"]


def test_a_group_that_does_not_end_is_given_up(monkeypatch):
    over, tries = threading.Event(), []

    def destroy():
        tries.append(1)
        over.wait()

    monkeypatch.setattr(launcher.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(launcher.distributed, "destroy_process_group", destroy)
    launcher.leave_group(0.1)
    launcher.leave_group(1000)
    assert len(tries) == 1
    (leaving,) = (each for each in threading.enumerate() if each.name == launcher.LEAVING)
    over.set()
    leaving.join()


def test_without_other_ranks_nothing_is_ended():
    with end_together(None):
        pass
    with pytest.raises(RuntimeError, match=r"^\[gloo"):  # noqa: SIM117
        with end_together(None):
            raise RuntimeError(LOST)


UNAWARE = """
import logging, subprocess, time
from mmattn.training.processes.other_ranks import OtherRanks
logging.basicConfig()
ends = {1: "exit 4", 2: "exec sleep 100"}
ranks = {rank: subprocess.Popen(["sh", "-c", end]) for rank, end in ends.items()}
print(ranks[2].pid, flush=True)
OtherRanks(ranks).watch(grace=0.2)
time.sleep(100)
"""

LAUNCHES = """
import os, subprocess, sys, time
os.environ["MMATTN_LAUNCHER"] = str(os.getpid())
rank = "from mmattn.training.processes.orphans import end_with_launcher; end_with_launcher()"
rank += "; import time; print('runs', flush=True); time.sleep(100)"
started = subprocess.Popen([sys.executable, "-c", rank], stdout=subprocess.PIPE)
started.stdout.readline()
print(started.pid, flush=True)
time.sleep(100)
"""


def program(text):
    return subprocess.Popen(
        [sys.executable, "-c", text],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_a_rank_0_that_does_not_notice_is_ended_with_the_others():
    with program(UNAWARE) as started:
        out, err = started.communicate(timeout=100)
    assert started.returncode == 1
    assert "rank 1 ended with exit code 4; rank 0 did not notice in 0 s" in err
    assert "rank 2 did not end by itself and was killed" in err
    until(lambda: not runs(int(out)))


def test_a_rank_does_not_outlive_the_process_that_launched_it():
    with program(LAUNCHES) as started:
        rank = int(started.stdout.readline())
        assert runs(rank)
        started.kill()
    until(lambda: not runs(rank))


def test_where_the_system_does_not_see_to_that_a_thread_does():
    text = LAUNCHES.replace("; end_with_launcher()", "").replace(
        "end_with_launcher", "end_when_adopted"
    )
    text = text.replace(
        "; import time",
        "; import os, threading, time; "
        "threading.Thread(target=end_when_adopted, args=(os.getppid(), 0.05), daemon=True).start()",
    )
    with program(text) as started:
        rank = int(started.stdout.readline())
        assert runs(rank)
        started.kill()
    until(lambda: not runs(rank))


def runs(pid):
    """Whether a process runs; what has ended and waits to be asked for its exit code does not."""
    try:
        with open(f"/proc/{pid}/stat") as stream:  # noqa: PTH123
            return stream.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until(condition, limit=60):
    last = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < last
        time.sleep(0.02)
