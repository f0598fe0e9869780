"""A classifier as users make and use it: trained by the command, then asked, each in a process."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import mmattn
from mmattn.cli.load_run import load_run
from mmattn.cli.model_of_run import bundle_of_run
from mmattn.metrics.calibration import confidences, expected_calibration_error
from mmattn.training.temperatures import validation_rows

REPOSITORY = Path(__file__).resolve().parent.parent
SMALL = [
    "experiment=glyphs_vqa",
    "controls=[]",
    "data.source.glyphs.fonts=[DejaVuSans,DejaVuSerif]",
    "data.source.glyphs.held_out_fonts=[DejaVuSans-Bold]",
    "data.source.questions=[letter,mark]",
    "model.vision.patches.dim=16",
    "model.vision.patches.channels_out=[8,8]",
    "model.text.dim=16",
    "trainer.accelerator=cpu",
    "trainer.max_epochs=1",
    "trainer.check_val_every_n_epoch=1",
    "trainer.limit_train_batches=8",
]


def python(folder, *arguments, code=0):
    """Run Python in a process of its own, as a user does."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "MMATTN"))}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(REPOSITORY), "PYTHONWARNINGS": ""},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The finished run's folder."""
    folder = tmp_path_factory.mktemp("empty folder")
    python(folder, REPOSITORY / "train.py", *SMALL)
    (path,) = folder.glob("logs/glyphs_vqa/runs/*")
    return path


@pytest.fixture(scope="module")
def validation(run):
    """The run as it was, and what its best weights say of its validation set."""
    ours = load_run(run)
    rows = validation_rows(ours.task, ours.data.val_dataloader(), "cpu")["answer"]
    return ours, rows["logits"], rows["targets"]


def test_its_results_tell_the_temperature_and_what_is_left(run, validation):
    results = json.loads((run / "results.json").read_text())
    temperature, error = results["model/temperature"], results["val/ece_calibrated"]
    assert 0.01 <= temperature <= 100
    assert temperature != 1.0
    _, logits, targets = validation
    wanted = expected_calibration_error(*confidences(logits / temperature, targets))
    assert error == pytest.approx(wanted, abs=1e-6)
    losses = [
        float(torch.nn.functional.cross_entropy(logits / t, targets))
        for t in (temperature, temperature * 1.05, temperature / 1.05)
    ]
    assert math.isfinite(losses[0])
    assert losses[0] <= min(losses) + 1e-6  # an untrained model hardly minds


def test_the_model_folder_and_the_run_give_the_same_model(run):
    results = json.loads((run / "results.json").read_text())
    loaded, imported = mmattn.load(run).bundle, bundle_of_run(run)
    assert loaded.temperature == imported.temperature == {"answer": results["model/temperature"]}
    assert loaded.classes == imported.classes
    found = imported.model.state_dict()
    assert all(torch.equal(v, found[k]) for k, v in loaded.model.state_dict().items())


def test_the_command_says_of_pictures_what_the_run_says(run, validation, tmp_path):
    ours, _, _ = validation
    temperature = json.loads((run / "results.json").read_text())["model/temperature"]
    dataset = ours.data.splits.val
    batch = ours.data.evaluation_batch(dataset, [0])
    with torch.no_grad():
        wanted = (ours.task.model(batch)["answer"] / temperature).softmax(-1)
    examples = {example.key: example for example in dataset.examples}
    lines = []
    for i, key in enumerate(batch.keys):
        pixels = dataset.store.image(examples[key].images[0])
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(tmp_path / f"{i}.png")
        lines.append(json.dumps({"image": f"{i}.png", "text": examples[key].text}))
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines) + "\n")
    typed = ["-m", "mmattn", "classify", "--texts", "pairs.jsonl", "--model", run, "--top", 3]
    typed += ["--out", "out.jsonl", "--device", "cpu"]
    done = python(tmp_path, *typed)
    assert done.stderr.startswith(f"{len(lines)} inputs; ")
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    names = ours.data.classes["answer"].names
    for line, probabilities in zip(found, wanted, strict=True):
        assert len(line["top"]) == min(3, len(names))
        for one in line["top"]:
            expected = float(probabilities[names.index(one["label"])])
            assert one["probability"] == pytest.approx(expected, abs=1e-4)
        assert line["probability"] == pytest.approx(float(probabilities.max()), abs=1e-4)
    again = python(tmp_path, *typed)
    assert again.stderr == f"{len(lines)} inputs; {len(lines)} done before\n"
