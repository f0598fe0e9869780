"""Signals to `train.py` as a scheduler or Ctrl-C sends them, to whole runs."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from mmattn.training.checkpoints.finding import read_checkpoint

pytestmark = pytest.mark.slow
REPOSITORY = Path(__file__).resolve().parents[2]
TINY = [
    *("train=true", "test=false", "print_config=false", "trainer.enable_progress_bar=false"),
    *("trainer.accelerator=cpu", "trainer.log_every_n_steps=1", "trainer.max_epochs=-1"),
    *("trainer.max_steps=2000", "trainer.check_val_every_n_epoch=100"),
    *("callbacks.attention=null", "callbacks.grounding=null", "callbacks.heads=null"),
    "++logger.csv.flush_logs_every_n_steps=1",
]
LIMIT = 500  # seconds for whatever a run is waited for


class Run:
    """A run of train.py, in a process group of its own as a shell starts it."""

    def __init__(self, folder, *arguments, environment=None, inherit=True, cwd=None):
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.output = folder / f"output-{time.monotonic_ns()}.txt"
        own = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "MMATTN"))}
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(REPOSITORY / "train.py"), *arguments],
                cwd=cwd or folder,
                env=(own if inherit else {})
                | {"PYTHONPATH": str(REPOSITORY), "PYTHONWARNINGS": ""}
                | (environment or {}),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def until(self, happened):
        """Wait until something has happened."""
        end = time.monotonic() + LIMIT
        while not happened():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < end, self.said()
            time.sleep(0.02)
        return self

    def rows(self):
        metrics = self.folder / "run" / "metrics.csv"
        return len(metrics.read_text().splitlines()) - 1 if metrics.exists() else 0

    def until_rows(self, rows):
        return self.until(lambda: self.rows() >= rows)

    def signal(self, number, *, group=False):
        with suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self.process.pid, number)
        return self

    def end(self):
        """Wait for the end; return the exit code and what was printed."""
        return self.process.wait(LIMIT), self.said()

    def ended(self):
        """Whether no process of the group is left; one that is just ending is waited for."""
        end = time.monotonic() + LIMIT
        while time.monotonic() < end:
            try:
                os.killpg(self.process.pid, 0)
            except ProcessLookupError:
                return True
            time.sleep(0.05)
        return False

    def end_all(self):
        """Leave nothing behind."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def said(self):
        return self.output.read_text()


@pytest.fixture
def start(small_run, tmp_path):
    """Start a run in `here/run`; what is left of it is ended with the test."""
    runs = []

    def run(*arguments, **options):
        place = tmp_path / "here"
        runs.append(Run(place, *small_run, *TINY, *arguments, **options))
        return runs[-1]

    yield run
    for each in runs:
        each.end_all()


def here(tmp_path):
    return f"hydra.run.dir={tmp_path}/here/run"


@pytest.mark.fault("F8")
@pytest.mark.fault("F30")
def test_ctrl_c_while_workers_read_and_a_requeue_after_going_on(start, tmp_path):
    first = start(here(tmp_path), "++data.loader.num_workers=2").until_rows(3)
    code, said = start(here(tmp_path)).end()  # beside it
    assert code == 2
    assert f"is in use by process {first.process.pid} on " in said
    code, said = first.signal(signal.SIGINT, group=True).end()
    assert code == 130, said
    assert "stopped by Ctrl-C after step" in said
    assert "Traceback" not in said
    path = tmp_path / "here" / "run" / "checkpoints" / "last.ckpt"
    step = read_checkpoint(path)["global_step"]
    assert step >= 3

    scontrol = tmp_path / "scontrol"
    lock = tmp_path / "here" / "run" / ".lock"
    scontrol.write_text(f"#!/bin/sh\n(echo $*; cat {lock}) > {tmp_path}/asked\n")
    scontrol.chmod(0o755)
    inherited = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "123"}
    options = (here(tmp_path), "ckpt_path=auto", "callbacks.preemption.requeue=true")
    second = start(*options, environment=inherited)
    second.until_rows(first.rows() + 3)
    code, said = second.signal(signal.SIGUSR1).end()
    assert code == 138, said
    assert (tmp_path / "asked").read_text() == "requeue 123\n"  # and nobody has the lock
    assert read_checkpoint(path)["global_step"] > step


@pytest.mark.fault("F8")
def test_a_signal_while_it_starts_ends_it_where_it_is(start, tmp_path):
    run = start(here(tmp_path)).until((tmp_path / "here" / "run" / ".lock").exists)
    code, said = run.signal(signal.SIGTERM).end()
    assert (code, said) == (143, "stopped by SIGTERM\n")
    assert not (tmp_path / "here" / "run" / "checkpoints").exists()


@pytest.mark.fault("F8")
@pytest.mark.fault("F34")
def test_a_sweep_of_two_ranks_ends_as_a_whole_when_one_of_them_gets_a_signal(start, tmp_path):
    sweep = f"hydra.sweep.dir={tmp_path}/here"
    run = start("-m", "seed=1,2", sweep, "trainer=ddp", "trainer.devices=2")
    metrics = tmp_path / "here" / "0" / "metrics.csv"
    run.until(lambda: metrics.exists() and len(metrics.read_text().splitlines()) > 3)
    code, said = run.signal(signal.SIGTERM).end()
    assert code == 143, said
    assert "stopped by SIGTERM after step" in said
    assert "Traceback" not in said
    assert read_checkpoint(tmp_path / "here" / "0" / "checkpoints" / "last.ckpt")
    assert not (tmp_path / "here" / "1").exists()
    assert run.ended()  # the second rank, too


@pytest.mark.fault("F29")
def test_without_a_home_in_a_folder_that_cannot_be_written_in_ascii(start, tmp_path):
    if not Path("/proc/self").exists():
        pytest.skip("needs /proc, where nobody can make a folder")
    odd = tmp_path / "odd räum"
    bare = {"PATH": os.environ["PATH"], "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    where = f"paths.log_dir='{odd}'"
    options = {"environment": bare, "inherit": False, "cwd": "/proc"}
    code, said = start(where, "debug=fdr", "print_config=true", **options).end()
    assert code == 0, said
    assert list(odd.glob("caption/runs/*/config.yaml"))
    code, said = start(**options).end()
    assert code == 2
    (line,) = said.splitlines()
    assert "cannot make the run directory" in line
    assert "paths.log_dir=" in line
