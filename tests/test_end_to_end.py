"""The command that users type, whole, with everything made small."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmattn.cli.load_run import load_run
from mmattn.decoding.decoded import Limits
from mmattn.decoding.greedy import Greedy
from mmattn.model_folder.format import read_folder

REPOSITORY = Path(__file__).resolve().parent.parent
SMALL = [
    "data.source.fonts=[DejaVuSans,DejaVuSerif]",
    "data.source.held_out_fonts=[DejaVuSans-Bold]",
    "model.vision.patches.dim=16",
    "model.vision.patches.channels_out=[8,8]",
    "model.text.dim=16",
    "model.text.depth=2",
    "model.text.context_dim=16",
    "trainer.accelerator=cpu",
    "trainer.max_epochs=1",
    "trainer.check_val_every_n_epoch=1",
    "trainer.limit_train_batches=8",
    "callbacks.attention.probes.size=2",
    "callbacks.attention.test_images=2",
]
PROMISED = [
    "test/fonts/exact_match",
    "test/fonts/cider",
    "test/compositions/exact_match",
    "test/compositions/cider",
    "attention/pointing",
    "attention/pointing_chance",
    "attention/energy_ratio",
    "train/seconds",
    "train/captions_per_second",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory, train):
    """The finished run's folder and what it printed."""
    folder = tmp_path_factory.mktemp("empty folder")  # with a space in its name
    done = train(folder, *SMALL)
    (path,) = folder.glob("logs/caption/runs/*")
    return path, done.stdout


def test_results_are_flat_finite_numbers_and_hold_what_was_promised(run):
    results = json.loads((run[0] / "results.json").read_text())
    assert not set(PROMISED) - set(results)
    assert all(isinstance(value, float) and math.isfinite(value) for value in results.values())
    assert 0 < results["attention/pointing_chance"] < 0.1
    assert results["train/captions_per_second"] > 0


def test_the_run_directory_holds_what_the_readme_lists(run):
    folder = run[0]
    listed = ["config.yaml", "metrics.csv", "train.log", "training_curve.png", ".hydra/config.yaml"]
    assert [name for name in listed if not (folder / name).is_file()] == []
    assert list(folder.glob("checkpoints/*.ckpt"))


def test_every_picture_has_its_numbers(run):
    strips = [p for p in run[0].rglob("attention/step-*/**/*.png") if "-heads" not in p.stem]
    assert len(strips) == 2 + 2 * 2  # the probe set once, and two test sets
    for path in strips:
        assert np.asarray(Image.open(path)).ndim == 3
        with np.load(path.with_suffix(".npz")) as numbers:  # never pickled
            weights, grid = numbers["weights"], tuple(numbers["grid"])
        assert grid == (8, 8)
        assert weights.shape[:2] == (2, 4)  # layers, heads
        assert weights.sum(-1) == pytest.approx(1.0, abs=1e-5)
    assert list(run[0].rglob("*-heads.png"))


def test_it_ends_with_captions_results_and_where_to_look(run):
    for said in ("captions of unseen images", "test/fonts/exact_match", "attention maps"):
        assert said in run[1]


def test_the_run_ends_with_a_model_folder_that_captions_alike(run):
    folder = run[0]
    ours, bundle = load_run(folder), read_folder(folder)
    limits = Limits(bundle.tokenizer.begin_id, bundle.tokenizer.end_id, bundle.max_length)
    transform = bundle.preprocessing.transform()
    for dataset in ours.data.splits.test.values():
        images = torch.stack([transform(dataset.image(i)) for i in range(8)])
        with torch.no_grad():
            decoded = Greedy()(bundle.model, bundle.model.encode(images), limits)
            batch = ours.data.evaluation_batch(dataset, range(8))
            wanted = ours.task.decode(ours.task.encode(batch))
        assert torch.equal(images, batch.images)
        assert torch.equal(decoded.tokens, wanted.tokens)
        rows = [(bundle.tokenizer, decoded), (ours.task.tokenizer, wanted)]
        found, same = ([of.decode(row) for row in d.tokens[:, 0].tolist()] for of, d in rows)
        assert found == same
    card = (folder / "model" / "README.md").read_text()
    assert "trained by mmattn on Glyphs" in card
    assert "| test/fonts/cider |" in card


def mmattn(*arguments):
    """Run the console script's `main` in a process of its own."""
    call = "from mmattn.cli.main import main; main()"
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "PYTHONWARNINGS": ""}
    command = [sys.executable, "-c", call, *map(str, arguments)]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=500, check=False
    )


def test_the_maps_of_a_run_can_be_viewed(run, tmp_path):
    done = mmattn("view", run[0], "--out", tmp_path / "pages")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"6 images; open in a browser: {tmp_path}/pages/index.html\n"
    assert len(list((tmp_path / "pages").glob("*.html"))) == 1 + 6


def test_the_maps_of_a_run_can_be_judged(run, tmp_path):
    options = ["--limit", "12", "--perturbed", "4", "--out", tmp_path]
    done = mmattn("attention-report", "--model", run[0], *options)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "attention_report.json").read_text())
    assert all(math.isfinite(value) for value in figures.values())
    assert {"attention_report.html", "attention_report.md"} < {p.name for p in tmp_path.iterdir()}
    # eight training steps teach nothing, and the report says so
    assert "NOT better than the controls" in done.stdout


def test_a_report_on_what_is_no_run_is_one_line(tmp_path):
    done = mmattn("attention-report", "--model", tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        f"error: {tmp_path} is no run directory: it has no config.yaml; give a folder such as "
        "logs/caption/runs/<time>\n"
    )
    done = mmattn("view", tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_half_precision_throughout(train, tmp_path):
    train(tmp_path, *SMALL, "trainer.precision=bf16-true", "trainer.limit_train_batches=2")
    (path,) = tmp_path.glob("logs/caption/runs/*/results.json")
    assert set(PROMISED) <= set(json.loads(path.read_text()))
    parameters = list(read_folder(path.parent).model.parameters())
    assert {parameter.dtype for parameter in parameters} == {torch.bfloat16}


def test_a_mistake_is_one_line(train, tmp_path):
    done = train(tmp_path, *SMALL, "model.text.block.heads=5", code=2)
    assert [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert "Traceback" not in done.stderr
    assert "16" in done.stderr
    assert "5" in done.stderr


@pytest.mark.fault("F34")
@pytest.mark.slow
def test_a_sweep_over_two_processes_makes_one_folder_and_one_wandb_run_a_point(train, tmp_path):
    train(
        tmp_path,
        *SMALL,
        *("-m", "model.text.depth=1,2", "trainer=ddp", "trainer.devices=2"),
        *("trainer.enable_progress_bar=false", "logger=wandb"),
    )
    points = sorted(tmp_path.glob("logs/caption/multiruns/*/[0-9]*"))
    assert [point.name for point in points] == ["0", "1"]
    for point in points:
        assert set(PROMISED) <= set(json.loads((point / "results.json").read_text()))
        assert (point / "model" / "manifest.json").is_file()
        assert len(list(point.glob("wandb/offline-run-*"))) == 1
    assert len(list(tmp_path.rglob("offline-run-*"))) == 2
    assert not list(tmp_path.glob("logs/caption/runs/*"))
