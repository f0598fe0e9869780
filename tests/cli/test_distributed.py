import logging
import os
import sys
from pathlib import Path

import pytest
import torch
from hydra.core.hydra_config import HydraConfig
from lightning.fabric.utilities.rank_zero import rank_zero_only
from omegaconf import OmegaConf

from mmattn.cli import distributed
from mmattn.errors import ConfigError


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
