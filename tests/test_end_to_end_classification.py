"""Classifiers as users train them, whole, with everything made small."""

import json
import math

import pytest
import torch

from mmattn.cli.load_run import load_run
from mmattn.model_folder.format import read_folder

FONTS = [
    "fonts=[DejaVuSans,DejaVuSerif]",
    "held_out_fonts=[DejaVuSans-Bold]",
]
SMALL = [
    "model.vision.patches.dim=16",
    "model.vision.patches.channels_out=[8,8]",
    "trainer.accelerator=cpu",
    "trainer.max_epochs=1",
    "trainer.check_val_every_n_epoch=1",
    "trainer.limit_train_batches=4",
    "trainer.enable_progress_bar=false",
    "data.loader.eval_batch_size=400",
]
QUESTIONS = [
    "experiment=glyphs_vqa",
    *SMALL,
    *(f"data.source.glyphs.{each}" for each in FONTS),
    "data.source.glyphs.size=24",
    "data.image_size=[24,24]",
    "model.text.dim=16",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory, train):
    """The folder of a finished run on questions, and what it printed."""
    folder = tmp_path_factory.mktemp("empty folder")
    done = train(folder, *QUESTIONS)
    (path,) = folder.glob("logs/glyphs_vqa/runs/*")
    return path, done.stdout


def test_results_hold_the_score_and_what_it_is_compared_with(run):
    results = json.loads((run[0] / "results.json").read_text())
    promised = {"test/fonts/accuracy", "control/image_only", "control/text_only", "control/chance"}
    assert not promised - results.keys()
    assert all(math.isfinite(value) for value in results.values())
    # Untrained, and on balanced questions: each is no better than the most frequent answer.
    assert results["control/chance"] == pytest.approx(0.42, abs=0.03)
    assert results["control/image_only"] <= results["control/chance"] + 0.05
    assert results["control/text_only"] <= results["control/chance"] + 0.05
    assert results["train/examples_per_second"] > 0
    for name in ("control/image_only", "control/text_only", "control/chance"):
        assert name in run[1]


def test_a_run_shows_what_it_confuses_and_why_it_answers_as_it_does(run):
    """Of the validation and of both test sets, the latter also with the fitted temperature."""
    results = json.loads((run[0] / "results.json").read_text())
    for name in ("val", "test-fonts", "test-compositions"):
        (step,) = (run[0] / "pictures" / name).iterdir()
        assert {path.name for path in step.glob("*.png")} == {
            *("confusion.png", "reliability.png", "risk_coverage.png"),
        }
        lines = (step / "reliability.csv").read_text().splitlines()[1:]
        temperatures = {float(line.partition(",")[0]) for line in lines}
        fitted = set() if name == "val" else {results["model/temperature"]}
        assert temperatures == {1.0, *fitted}
    assert {"test/fonts/aurc", "test/fonts/ece_calibrated"} <= results.keys()
    shown = {path.parent.name for path in (run[0] / "decisions").rglob("*.png")}
    assert shown == {"probes", "mistakes"}
    assert (run[0] / "decisions" / "index.html").is_file()


def test_a_run_can_be_read_back_with_its_classes(run):
    found = load_run(run[0])
    batch = next(iter(found.data.val_dataloader()))
    with torch.inference_mode():
        scores = found.task.model(batch)["answer"]
    assert scores.shape == (len(batch.keys), len(found.task.classes["answer"].names))


def test_training_goes_on_and_refuses_other_classes(run, train):
    checkpoint = f"ckpt_path={run[0]}/checkpoints/last.ckpt"
    folder = run[0].parents[3]
    more = [*QUESTIONS, checkpoint, "controls=[]", "test=false", "print_config=false"]
    train(folder, *more, "trainer.max_epochs=2")
    done = train(folder, *more, "data.source.marks=3", code=2)
    assert "classes of answer and this run" in done.stderr


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["controls=[colour]"], "controls names 'colour'; choose image_only, text_only"),
        (["controls=[]", "task.loss.focal=-1"], "focal=-1"),
        (["data.withhold=image", "controls=[]"], "has no image, and the model reads one"),
        (["task=captioning", "controls=[]"], "task, data and model are of different kinds"),
        (["data.source.questions=[colour]"], "'colour' is no kind of question"),
        (["model.fusion.depth=0"], "fusion.depth=0"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(train, tmp_path, overrides, message):
    done = train(tmp_path, *QUESTIONS, *overrides, code=2)
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_pictures_alone_with_three_heads(train, tmp_path):
    train(
        tmp_path,
        "experiment=glyphs_classify",
        *SMALL,
        *(f"data.source.glyphs.{each}" for each in FONTS),
        "task.mixup=0.4",
        "task.loss.class_weights=balanced",
    )
    (path,) = tmp_path.glob("logs/glyphs_classify/runs/*")
    results = json.loads((path / "results.json").read_text())
    for head in ("script", "category", "case"):
        assert 0 <= results[f"test/fonts/{head}/accuracy"] <= 1


def test_a_linear_probe_learns_a_layer_and_leaves_the_encoder_alone(run, train, tmp_path):
    train(
        tmp_path,
        "experiment=linear_probe",
        f"model.vision.source={run[0]}",
        "data=glyphs_classify",
        "data.source.glyphs.size=24",
        "data.image_size=[24,24]",
        *(each for each in SMALL if not each.startswith("model")),
        *(f"data.source.glyphs.{each}" for each in FONTS),
    )
    (path,) = tmp_path.glob("logs/linear_probe/runs/*")
    probe, source = (read_folder(each / "model").model for each in (path, run[0]))
    assert probe.text is None
    trained, before = probe.vision.state_dict(), source.vision.state_dict()
    assert all(torch.equal(before[name], value) for name, value in trained.items())
    assert trained.keys() == before.keys()
    assert any(head.bias.abs().max() > 0 for head in probe.heads.values())


@pytest.mark.slow
def test_the_five_fusions_end_in_a_table_and_have_one_size(train, tmp_path):
    overrides = [each for each in QUESTIONS if not each.startswith("experiment")]
    done = train(tmp_path, "experiment=fusion_ablation", *overrides, "model.text.dim=32")
    lines = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert lines[0].startswith("| model/fusion | model/parameters |")
    rows = [line.strip("| ").split(" | ") for line in lines[2:]]
    assert [row[0] for row in rows] == ["cross", "co", "merged", "gated", "pooled"]
    sizes = [int(row[1].replace(",", "")) for row in rows]
    assert max(sizes) / min(sizes) < 1.05
