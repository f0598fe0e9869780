"""A run directory made by hand: an untrained model of a few thousand parameters."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from mmattn.cli import schema
from mmattn.cli.build import build, build_task
from mmattn.cli.load_run import load_run
from mmattn.errors import CheckpointError, ConfigError


@pytest.fixture(scope="module")
def made(tmp_path_factory, small_run):
    """Write a run directory with two checkpoints, of which `last.ckpt` calls the other the best."""
    run = tmp_path_factory.mktemp("runs") / "run"
    (run / "checkpoints").mkdir(parents=True)
    schema.register()
    with initialize_config_dir(str(schema.config_dir()), version_base="1.3"):
        config = compose("train", [f"paths.output_dir={run}", *small_run, "compile=true"])
    data = build(config.data, "data")
    data.read()
    config.model.text.vocab_size = data.tokenizer.vocab_size
    (run / "config.yaml").write_text(OmegaConf.to_yaml(config, resolve=True))
    config.compile = False
    for name in ("epoch_003", "last"):
        torch.manual_seed(len(name))
        task = build_task(config, build(config.model, "model"), data)
        checkpoint = {"state_dict": task.state_dict()}
        best = {"best_model_path": "/elsewhere/checkpoints/epoch_003.ckpt"}
        checkpoint["callbacks"] = {"EarlyStopping": {"wait": 0}, "ModelCheckpoint": best}
        task.on_save_checkpoint(checkpoint)
        torch.save(checkpoint, run / "checkpoints" / f"{name}.ckpt")
    return run


@pytest.fixture
def saved(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "run"))


def state(run, name):
    return torch.load(run / "checkpoints" / name, weights_only=True)["state_dict"]


def same(task, wanted):
    return all(torch.equal(value, wanted[name]) for name, value in task.state_dict().items())


def test_the_best_checkpoint_of_a_run_is_loaded(saved):
    run = load_run(saved)
    assert (run.folder, run.checkpoint.name) == (saved, "epoch_003.ckpt")
    assert same(run.task, state(saved, "epoch_003.ckpt"))
    assert not run.task.training
    assert not run.config.compile
    assert run.data.test_names == ["fonts", "compositions"]


def test_a_checkpoint_of_a_run_may_be_chosen(saved):
    run = load_run(saved / "checkpoints" / "last.ckpt")
    assert run.folder == saved
    assert same(run.task, state(saved, "last.ckpt"))


def test_without_a_best_one_the_last_is_taken(saved):
    (saved / "checkpoints" / "epoch_003.ckpt").unlink()
    assert load_run(saved).checkpoint.name == "last.ckpt"


def test_its_configuration_may_be_changed(saved):
    assert load_run(saved, ["data.loader.eval_batch_size=7"]).data.loader.eval_batch_size == 7


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["data.lodaer.eval_batch_size=7"], "lodaer"),
        (["nonsense"], "'nonsense': give changes as key=value"),
        (["data.source._target_=os.system"], "'os.system' is not on the list"),
        (["data.max_length=3"], "longer than max_length=3"),
    ],
)
def test_a_change_that_does_not_fit_is_refused(saved, overrides, said):
    with pytest.raises(ValueError, match=said):
        load_run(saved, overrides)


def test_what_is_no_run_is_named(saved, tmp_path):
    with pytest.raises(ConfigError, match="absent does not exist; give a folder such as logs"):
        load_run(tmp_path / "absent")
    with pytest.raises(ConfigError, match=r"is no run directory: it has no config\.yaml"):
        load_run(saved / "checkpoints")
    stray = tmp_path / "stray.ckpt"
    stray.write_text("")
    with pytest.raises(ConfigError, match=r"no config\.yaml in the folders above"):
        load_run(stray)
    for path in (saved / "checkpoints").iterdir():
        path.unlink()
    with pytest.raises(CheckpointError, match="no checkpoint; was this run ended early"):
        load_run(saved)


@pytest.mark.parametrize("text", ["[1, 2", "- a", "{}", json.dumps({"data": 1, "model": 2})])
def test_a_configuration_that_is_none_is_one_line(saved, text):
    (saved / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"config\.yaml: ") as caught:
        load_run(saved)
    assert "\n" not in str(caught.value)
