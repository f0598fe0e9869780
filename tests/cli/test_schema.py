import os
import subprocess
import sys
import time

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from mmattn.cli import schema


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    schema.register()
    names = ["MMATTN_RUN_TIME", "TORCHELASTIC_RUN_ID", "WANDB_MODE", "WANDB_API_KEY"]
    for name in (*names, "SLURM_NTASKS", "SLURM_JOB_NAME", "SLURM_NNODES", "SLURM_STEP_ID"):
        monkeypatch.delenv(name, raising=False)


def composed(*overrides):
    with initialize_config_dir(str(schema.config_dir()), version_base="1.3"):
        return compose("train", [*overrides, "paths.output_dir=x"])


GROUPS = sorted(
    (str(path.parent.relative_to(schema.config_dir())), path.stem)
    for path in schema.config_dir().glob("*/**/*.yaml")
    if path.parent.name not in ("hydra", "paths") and path.stem != "captioner"
)


@pytest.mark.parametrize(("group", "option"), GROUPS)
def test_every_option_composes_and_resolves(group, option):
    models = {"model/fusion": ["model=classifier"], "model/text_encoder": ["model=joint"]}
    needed = models.get(group, [])
    config = composed(*needed, f"{'+' * (group == 'local')}{group}={option}")
    OmegaConf.to_container(config, resolve=True)


def test_the_roots_keys_are_typed():
    config = composed()
    with pytest.raises(Exception, match="could not be converted to Integer"):
        config.seed = "abc"
    with pytest.raises(Exception, match="not in 'TrainConfig'"):
        config.seeed = 1


def test_a_runs_time_stamp_is_that_of_its_process_and_stays():
    first = schema.run_time()
    assert first == schema.run_time() == os.environ["MMATTN_RUN_TIME"]
    assert first.endswith(f"_{os.getpid()}")
    seconds = time.mktime(time.strptime(first.rpartition("_")[0], "%Y-%m-%d_%H-%M-%S"))
    assert abs(seconds - time.time()) < 5


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_processes_that_torchrun_starts_agree_on_the_time_stamp(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    program = "from mmattn.cli.schema import run_time; print(run_time())"
    stamps = set()
    for _ in range(2):
        command = [sys.executable, "-c", program]
        stamps.add(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        time.sleep(1.1)
    assert len(stamps) == 1
    assert abs(schema.start_time(os.getpid()) - time.time()) < 24 * 3600


def test_ddp_takes_the_processes_that_torchrun_started(monkeypatch):
    trainer = composed("trainer=ddp").trainer
    assert (trainer.devices, trainer.num_nodes) == ("auto", 1)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setenv("GROUP_WORLD_SIZE", "2")
    assert (trainer.devices, trainer.num_nodes) == (4, 2)


def slurm(monkeypatch, **variables):
    for name, value in variables.items():
        monkeypatch.setenv(f"SLURM_{name}", value)


def test_ddp_takes_the_processes_that_srun_started(monkeypatch):
    slurm(monkeypatch, NTASKS="16", NNODES="2", JOB_ID="77", JOB_NAME="train")
    trainer = composed("trainer=ddp").trainer
    assert (trainer.devices, trainer.num_nodes) == (8, 2)
    monkeypatch.setenv("SLURM_JOB_NAME", "interactive")  # a shell, from which Lightning starts them
    assert (trainer.devices, trainer.num_nodes) == ("auto", 1)
    monkeypatch.setenv("SLURM_JOB_NAME", "train")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")  # torchrun, once on each machine
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setenv("GROUP_WORLD_SIZE", "3")
    assert (trainer.devices, trainer.num_nodes) == (4, 3)


@pytest.mark.parametrize(("step", "stamp"), [("0", "slurm_77"), ("3", "slurm_77_3")])
def test_processes_that_srun_starts_share_the_run_directory(monkeypatch, step, stamp):
    slurm(monkeypatch, NTASKS="16", NNODES="2", JOB_ID="77", STEP_ID=step, JOB_NAME="train")
    assert schema.run_time() == stamp


def test_jobs_of_slurm_are_described_as_the_launcher_understands_them():
    from hydra_plugins.hydra_submitit_launcher.config import SlurmQueueConf

    path = schema.config_dir() / "hydra" / "launcher" / "slurm.yaml"
    ours, theirs = OmegaConf.load(path), OmegaConf.structured(SlurmQueueConf)
    assert ours._target_ == theirs._target_
    OmegaConf.merge(theirs, ours)  # the same keys, of their types


@pytest.mark.parametrize(
    ("mode", "key", "netrc", "offline"),
    [
        (None, None, None, True),
        (None, "abc", None, False),
        (None, None, "machine api.wandb.ai login user password x", False),
        (None, None, "machine example.org login user password x", True),
        ("offline", "abc", None, True),
        ("dryrun", "abc", None, True),
        ("online", None, None, False),
        ("disabled", None, None, False),
    ],
)
def test_wandb_is_offline_without_a_key_or_where_told_so(
    mode, key, netrc, offline, monkeypatch, tmp_path
):
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    if netrc:
        (tmp_path / "netrc").write_text(netrc)
    for name, value in (("WANDB_MODE", mode), ("WANDB_API_KEY", key)):
        if value:
            monkeypatch.setenv(name, value)
    assert schema.wandb_offline() is offline
    assert composed("logger=wandb").logger.wandb.offline is offline


@pytest.mark.fault("F29")
def test_a_user_without_a_home_has_no_key(monkeypatch):
    monkeypatch.delenv("NETRC", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # HOME and passwd know nothing
    assert schema.wandb_offline() is True
