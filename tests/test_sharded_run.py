"""Whole runs of two ranks that have a part of the model each, with all callbacks of the default."""

import json
import math
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch

from mmattn.cli import verify_resume
from mmattn.model_folder.format import read_folder
from mmattn.training.checkpoints.finding import read_checkpoint

pytestmark = pytest.mark.slow
SMALL = [
    *("data.source.fonts=[DejaVuSans,DejaVuSerif]", "data.source.categories=[Lu]"),
    *("data.source.held_out_fonts=[DejaVuSans-Bold]", "model.vision.patches.dim=16"),
    *("model.vision.patches.channels_out=[4,4]", "model.text.dim=16", "model.text.depth=1"),
    *("model.text.context_dim=16", "data.loader.batch_size=8"),
    *("callbacks.attention.probes.size=1", "callbacks.attention.test_images=1"),
    *("trainer=fsdp", "trainer.accelerator=cpu", "trainer.devices=2"),
]


@pytest.mark.fault("F2")
def test_it_goes_on_exactly_from_a_step_and_from_the_last_one(tmp_path, monkeypatch, capsys):
    """From the last step on, a validation is left to do, and to save, by a model that is whole."""
    monkeypatch.chdir(tmp_path)
    short = TemporaryDirectory()  # names of sockets are of 108 characters at most
    monkeypatch.setenv("TMPDIR", short.name)
    monkeypatch.setattr("tempfile.tempdir", None)
    options = ["mmattn verify-resume", "--steps", "4", "--batches", "2", "--cuts", "1,4"]
    monkeypatch.setattr("sys.argv", [*options, *SMALL])
    with short, pytest.raises(SystemExit) as ended:
        verify_resume.main()
    shown = capsys.readouterr().out
    assert ended.value.code == 0, shown
    for step in (1, 4):  # weights, optimiser, losses and metrics.csv
        assert f"| {step} | 0 | 2 | 32-true | 0 | none |" in shown


def test_it_ends_with_everything_that_a_run_of_one_process_has(train, tmp_path):
    few = ["trainer.max_epochs=2", "trainer.check_val_every_n_epoch=1", "print_config=false"]
    few += [f"trainer.limit_{name}_batches=1" for name in ("train", "val", "test")]
    train(tmp_path, *SMALL, *few)
    (folder,) = tmp_path.glob("logs/caption/runs/*")
    results = json.loads((folder / "results.json").read_text())
    wanted = {"test/fonts/cider", "test/compositions/loss", "attention/pointing", "train/seconds"}
    assert wanted <= results.keys()
    assert all(math.isfinite(value) for value in results.values())
    assert {"step-000001", "step-000002"} <= {path.name for path in folder.glob("attention/*")}
    best = read_checkpoint(Path(folder / "checkpoints" / "last.ckpt"))
    state = next(state for key, state in best["callbacks"].items() if "ModelCheckpoint" in key)
    best = read_checkpoint(Path(state["best_model_path"]))["state_dict"]
    weights = read_folder(folder / "model").model.state_dict()
    assert all(torch.equal(value, best[f"model.{name}"]) for name, value in weights.items())
