import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hydra.core.hydra_config import HydraConfig
from lightning.fabric.utilities.rank_zero import rank_zero_only
from omegaconf import OmegaConf

from mmattn.cli import distributed
from mmattn.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def hydra_node(monkeypatch):
    node = OmegaConf.create(
        {
            "run": {"dir": "elsewhere"},
            "overrides": {"task": ["seed=1", "ckpt_path=auto", "tags=[a,b]"]},
        }
    )
    monkeypatch.setattr(HydraConfig, "get", staticmethod(lambda: node))
    return node


@pytest.mark.fault("F34")
@pytest.mark.parametrize(
    ("checkpoint", "written"),
    [(None, "ckpt_path=null"), (Path("/runs/a b/last.ckpt"), "ckpt_path='/runs/a b/last.ckpt'")],
)
def test_further_processes_get_the_command_of_this_job(
    hydra_node, monkeypatch, checkpoint, written
):
    monkeypatch.setattr(sys, "argv", ["train.py", "-m", "--config-dir", "mine", "seed=1,2"])
    distributed.join_processes(Path("/runs/0"), checkpoint)
    assert sys.argv == ["train.py", "--config-dir", "mine", "seed=1", "tags=[a,b]", written]
    assert hydra_node.run.dir == "/runs/0"


def test_the_console_script_starts_itself_with_its_command(hydra_node, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/bin/mmattn train", "seed=1"])
    distributed.join_processes(Path("/runs/0"), None)
    assert sys.argv == ["/bin/mmattn", "train", "seed=1", "tags=[a,b]", "ckpt_path=null"]


@pytest.mark.fault("F34")
def test_a_job_leaves_no_trace_for_the_next(monkeypatch):
    monkeypatch.setenv("MASTER_PORT", "1234")
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setattr(sys, "argv", ["train.py", "-m"])
    with distributed.one_job():
        os.environ |= {"MASTER_PORT": "1", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
        os.environ["MASTER_ADDR"] = "127.0.0.1"
        sys.argv = ["train.py", "seed=1"]
        store = torch.distributed.HashStore()
        torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    assert not torch.distributed.is_initialized()
    assert sys.argv == ["train.py", "-m"]
    assert os.environ["MASTER_PORT"] == "1234"
    assert not {"LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR"} & os.environ.keys()


@pytest.mark.parametrize(("rank", "speaks"), [(0, True), (1, False)])
def test_rank_0_speaks_for_all(monkeypatch, tmp_path, rank, speaks):
    root = logging.getLogger()
    console, file = logging.StreamHandler(), logging.FileHandler(tmp_path / "log", delay=True)
    before = root.level
    monkeypatch.setattr(root, "handlers", [console, file])
    monkeypatch.setattr(rank_zero_only, "rank", rank)
    root.setLevel(logging.INFO)
    distributed.quiet_other_ranks()
    assert root.isEnabledFor(logging.INFO) is speaks
    assert (console.level < logging.ERROR) is speaks
    assert file.level < logging.WARNING  # a warning of any rank is in the log
    root.setLevel(before)


def test_torchrun_and_the_trainer_must_agree(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    distributed.check_ranks(1)  # without torchrun the variable is nobody's
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    distributed.check_ranks(2)
    with pytest.raises(ConfigError, match="started 2 processes and the trainer wants 1: use trai"):
        distributed.check_ranks(1)


SMALL = [
    *("trainer=ddp", "trainer.accelerator=cpu", "print_config=false", "trainer.max_epochs=1"),
    *("data.source.fonts=[DejaVuSans,DejaVuSerif]", "data.source.categories=[Lu]"),
    *("trainer.limit_train_batches=2", "trainer.limit_val_batches=1"),
    *("trainer.limit_test_batches=1", "trainer.check_val_every_n_epoch=1", "logger=wandb"),
]


def run(folder, *command):
    """Run a command in `folder`, as a user does; return what it says."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "MMATTN"))}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": ""},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    return SimpleNamespace(code=done.returncode, out=done.stdout, err=done.stderr)


@pytest.mark.slow
@pytest.mark.fault("F34")
def test_torchrun_makes_one_run_and_it_can_be_gone_on_from(tmp_path):
    """Started by torchrun, gone on from by Lightning's own launcher: the same two ranks."""
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    first = run(tmp_path, sys.executable, *launcher, str(ROOT / "train.py"), *SMALL)
    assert first.code == 0, first.out[-3000:] + first.err[-3000:]
    (folder,) = tmp_path.glob("logs/caption/runs/*")
    assert json.loads((folder / "results.json").read_text())["train/captions_per_second"] > 0
    assert first.out.count("epoch 0: val/loss") == 1
    assert first.out.count("training pictures") == 1
    assert "sync_dist" not in first.err
    assert not list(folder.glob("*ddp_process*"))
    assert len(list(tmp_path.rglob("offline-run-*"))) == 1

    command = (sys.executable, str(ROOT / "train.py"), *SMALL, "trainer.devices=2")
    more = run(tmp_path, *command, "ckpt_path=auto", "trainer.max_epochs=2")
    assert more.code == 0, more.out[-3000:] + more.err[-3000:]
    assert len(list(tmp_path.glob("logs/caption/runs/*"))) == 2
    assert "epoch 1: val/loss" in more.out
    assert "epoch 0: val/loss" not in more.out

    wrong = run(tmp_path, *command, "ckpt_path=auto", "seed=5")
    assert wrong.code == 2
    (line,) = [line for line in wrong.err.splitlines() if line.startswith("error")]
    assert "seed=0 and this run has seed=5" in line
    assert "Traceback" not in wrong.err
