import json
import os
import platform
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mmattn.cli.run_lock import PLACES, other_rank, run_lock
from mmattn.errors import ConfigError

pytestmark = pytest.mark.fault("F30")
REPOSITORY = Path(__file__).resolve().parents[2]
HOLDER = """
import os, sys
from pathlib import Path
from mmattn.cli.run_lock import run_lock
assert "torch" not in sys.modules
with run_lock(Path(sys.argv[1])):
    if os.fork() == 0:  # a process that reads data, which may outlive its parent
        os.closerange(0, 3)
        import time
        time.sleep(120)
    print(os.getpid(), flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    for name in PLACES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def holder(tmp_path):
    """A process of its own that holds the lock of this folder."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout.readline() == f"{process.pid}\n"
            yield process
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_a_second_run_is_told_who_is_there(holder, tmp_path):
    said = rf"in use by process {holder.pid} on {platform.node()} since \d{{4}}-.*hydra\.run\.dir="
    with pytest.raises(ConfigError, match=said), run_lock(tmp_path):
        pass
    holder.stdin.close()
    assert holder.wait(60) == 0
    with run_lock(tmp_path):  # another process may have it now
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()


def test_the_lock_of_a_run_that_was_killed_is_taken_over(holder, tmp_path, caplog):
    holder.kill()
    holder.wait(60)
    with run_lock(tmp_path):
        pass
    assert re.search(rf"was in use by process {holder.pid} .* ended without a word", caplog.text)
    caplog.clear()
    with run_lock(tmp_path):  # it ended as it should
        pass
    assert not caplog.records


@pytest.mark.parametrize("name", PLACES)
def test_the_ranks_of_a_run_share_it(holder, tmp_path, monkeypatch, name):
    monkeypatch.setenv(name, "0")
    assert not other_rank()
    monkeypatch.setenv(name, "1")
    assert other_rank()
    with run_lock(tmp_path):
        pass


def test_a_lock_file_that_says_nothing_is_held_all_the_same(holder, tmp_path):
    (tmp_path / ".lock").write_text("{")
    with pytest.raises(ConfigError, match="in use by another process"), run_lock(tmp_path):
        pass


def test_a_file_system_without_locks_is_warned_of(tmp_path, monkeypatch, caplog):
    def lockf(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.lockf", lockf)
    with run_lock(tmp_path):
        pass
    assert "cannot be locked (Function not implemented): keep other runs out of it" in caplog.text


def test_a_folder_that_cannot_be_written_is_somebody_elses_to_name(tmp_path):
    with run_lock(tmp_path / "absent"):
        pass  # the run goes on to where the folder is tried
