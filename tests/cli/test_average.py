"""`mmattn average` as typed: model folders, checkpoints and the last ones of a run."""

import os
from pathlib import Path

import pytest
import torch

from mmattn.cli import model_of_run
from mmattn.model_folder.format import read_folder, write_folder


@pytest.fixture
def averaged(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *typed: call("average", *typed)


@pytest.fixture
def folders(make_captioner, tmp_path):
    bundles = [make_captioner() for _ in range(2)]
    with torch.no_grad():  # the second has learned on
        for parameter in bundles[1].model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return [write_folder(each, tmp_path / f"m{i}") for i, each in enumerate(bundles)]


def mean_of(*folders):
    states = [read_folder(folder).model.state_dict() for folder in folders]
    return {name: torch.stack([s[name] for s in states]).double().mean(0) for name in states[0]}


def test_the_mean_of_model_folders_is_a_model_folder(averaged, folders):
    code, out, err = averaged(*folders, "--out", "mean")
    assert (code, err) == (0, "")
    assert out.startswith("mean: the mean of 2 checkpoints, ")
    found = read_folder("mean")
    for name, tensor in mean_of(*folders).items():
        assert torch.equal(found.model.state_dict()[name], tensor.float())
    assert found.source.startswith("the mean of 2 checkpoints")


def test_the_last_of_a_run_are_averaged_in_their_order(
    averaged, make_captioner, folders, monkeypatch
):
    checkpoints = Path("run/checkpoints")
    checkpoints.mkdir(parents=True)
    Path("run/config.yaml").write_text("data: {}\nmodel: {}\noptimizer: {}\n")
    for i in range(3):
        path = checkpoints / f"epoch_{i:03}.ckpt"
        path.write_text("a checkpoint")
        os.utime(path, (1000 + i, 1000 + i))
    asked = []

    def bundle_of_run(source, allowed):
        asked.append(source.name)
        return read_folder(folders[len(asked) - 1])

    monkeypatch.setattr(model_of_run, "bundle_of_run", bundle_of_run)
    monkeypatch.setattr(model_of_run, "results_of_run", lambda source: {})
    code, out, _ = averaged("run", "--last", 2, "--out", "mean", "--dtype", "bfloat16")
    assert code == 0
    assert asked == ["epoch_001.ckpt", "epoch_002.ckpt"]
    assert out.splitlines()[1:] == [f"  run/checkpoints/{name}" for name in asked]
    found = read_folder("mean").model.state_dict()
    for name, tensor in mean_of(*folders).items():
        assert torch.equal(found[name], tensor.float().bfloat16())


def test_a_real_run_is_averaged_with_itself(averaged, call, train, small_run, tmp_path):
    train(
        tmp_path,
        *small_run,
        "trainer.max_epochs=1",
        "trainer.limit_train_batches=1",
        "trainer.limit_val_batches=1",
        "test=false",
        f"hydra.run.dir={tmp_path}/run",
    )
    assert averaged("run", "run", "--out", "mean")[0] == 0
    assert call("import_model", "run", "same")[0] == 0
    found, wanted = (read_folder(name).model.state_dict() for name in ("mean", "same"))
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in found.items())


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (("m0",), "m0 alone is its own mean: name 2 checkpoints or more"),
        (("m0", "m1", "--last", 3), "--last 3: none of m0, m1 is a run directory"),
        (("m0", "m1", "--last", 0), "--last 0: give 1 or more"),
        (("m0", "nowhere"), "nowhere does not exist: name checkpoints, run directories"),
        (("run", "--last", 2), "run has 0 checkpoints, and --last 2 wants more"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(averaged, folders, typed, said):
    Path("run/checkpoints").mkdir(parents=True)
    code, out, err = averaged(*typed, "--out", "mean")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err
    assert not Path("mean").exists()


def test_other_architectures_are_said(averaged, folders, classifier):
    code, _, err = averaged(folders[0], classifier, "--out", "mean")
    assert (code, err.count("\n")) == (2, 1)
    assert "which" in err
