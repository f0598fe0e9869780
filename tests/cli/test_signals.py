"""Signals to `train.py` as a scheduler or Ctrl-C sends them: whole runs, in processes of their own."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from mmattn.training.checkpoints import read_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.fault("F8")]
REPOSITORY = Path(__file__).resolve().parents[2]
TINY = [
    *("train=true", "test=false", "print_config=false", "trainer.enable_progress_bar=false"),
    *("trainer.accelerator=cpu", "trainer.log_every_n_steps=1", "trainer.max_epochs=-1"),
    *("trainer.max_steps=40", "trainer.check_val_every_n_epoch=5", "data.loader.eval_batch_size=32"),
    *("callbacks.attention.probes.size=1", "callbacks.heads=null", "callbacks.curve=null"),
]
LIMIT = 300  # seconds for whatever a run is waited for


class Run:
    """A run of train.py, in a process group of its own as a shell starts it."""

    def __init__(self, folder, *arguments, environment=None):
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.output = folder / f"output-{time.monotonic_ns()}.txt"
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "MMATTN"))}
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(REPOSITORY / "train.py"), *arguments],
                cwd=folder,
                env=inherited | {"PYTHONPATH": str(REPOSITORY)} | (environment or {}),
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

    def until_step(self, step):
        metrics = self.folder / "run" / "metrics.csv"
        return self.until(lambda: metrics.exists() and len(metrics.read_text().splitlines()) > step)

    def signal(self, number, *, group=False):
        with suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self.process.pid, number)
        return self

    def end(self):
        """Wait for the end; return the exit code and what was printed, and leave nothing behind."""
        try:
            code = self.process.wait(LIMIT)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        return code, self.said()

    def said(self):
        return self.output.read_text()


@pytest.fixture
def start(small_run, tmp_path):
    def run(*arguments, folder="here", **options):
        place = tmp_path / folder
        own = [*small_run, *TINY, f"hydra.run.dir={place}/run", *arguments]
        return Run(place, *own, **options)

    return run


@pytest.fixture(scope="module")
def whole(small_run, tmp_path_factory):
    """The weights of a run that nobody stopped."""
    place = tmp_path_factory.mktemp("whole")
    code, said = Run(place, *small_run, *TINY, f"hydra.run.dir={place}/run", KEEP).end()
    assert code == 0, said
    return read_checkpoint(place / "run" / "checkpoints" / "step=40.ckpt")


KEEP = (
    "+callbacks.end={_target_:lightning.pytorch.callbacks.ModelCheckpoint,"
    "dirpath:${paths.output_dir}/checkpoints,filename:'{step}',every_n_train_steps:40,"
    "save_top_k:-1}"
)


def test_ctrl_c_while_workers_read_and_on_from_there(start, whole, tmp_path):
    workers = ("data.loader.num_workers=2", KEEP)
    code, said = start(*workers).until_step(7).signal(signal.SIGINT, group=True).end()
    assert code == 130, said
    assert "stopped by Ctrl-C after step" in said
    assert "Traceback" not in said
    path = tmp_path / "here" / "run" / "checkpoints" / "last.ckpt"
    assert 7 <= read_checkpoint(path)["global_step"] < 40
    code, said = start(KEEP, "ckpt_path=auto").end()
    assert code == 0, said
    assert "going on from" in said
    end = read_checkpoint(path.with_name("step=40.ckpt"))
    assert end["global_step"] == 40
    for name, value in whole["state_dict"].items():
        assert torch.equal(end["state_dict"][name], value), name
