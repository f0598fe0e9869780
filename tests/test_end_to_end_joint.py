"""A joint model as users train it, whole, with everything made small."""

import json
import math

import pytest
import torch
from lightning import Trainer

from mmattn.cli.load_run import captioning_run, load_run
from mmattn.joint import JointModel
from mmattn.training.checkpoints.finding import read_checkpoint

pytestmark = pytest.mark.slow  # each is a run of train.py

SMALL = [
    "experiment=glyphs_joint",
    "data.source.fonts=[DejaVuSans,DejaVuSerif]",
    "data.source.held_out_fonts=[DejaVuSans-Bold]",
    "model.vision.patches.dim=16",
    "model.vision.patches.channels_out=[8,8]",
    "model.text.dim=16",
    "model.text.depth=1",
    "model.text.context_dim=16",
    "model.text_encoder.dim=16",
    "model.embed_dim=16",
    "task.rerank=2",
    "trainer.accelerator=cpu",
    "trainer.max_epochs=1",
    "trainer.check_val_every_n_epoch=1",
    "trainer.limit_train_batches=4",
    "trainer.log_every_n_steps=1",
    "trainer.enable_progress_bar=false",
    "callbacks=[default,ema]",
    "callbacks.attention.probes.size=1",
    "callbacks.attention.test_images=1",
]
FIGURES = [
    *("exact_match", "cider", "match_accuracy", "match_auroc", "similarity_choice"),
    *(f"{way}_recall_{k}" for way in ("image_to_text", "text_to_image") for k in (1, 5, 10)),
    *("mean_recall", "text_to_image_median_rank", "reranked_image_to_text_recall_1"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory, train):
    """The folder of a finished run, and what it printed."""
    folder = tmp_path_factory.mktemp("empty folder")
    done = train(folder, *SMALL)
    (path,) = folder.glob("logs/glyphs_joint/runs/*")
    return path, done.stdout


def test_results_hold_captions_retrieval_matching_and_attention(run):
    results = json.loads((run[0] / "results.json").read_text())
    promised = {f"test/{name}/{each}" for name in ("fonts", "compositions") for each in FIGURES}
    promised |= {"attention/pointing", "train/captions_per_second"}
    assert not promised - results.keys()
    assert all(math.isfinite(value) for value in results.values())
    assert list(run[0].rglob("attention/step-*/**/*.npz"))
    for said in ("val/text_to_image_recall_1", "val/match_accuracy"):
        assert said in run[1]
    header = (run[0] / "metrics.csv").read_text().partition("\n")[0].split(",")
    losses = {"loss", "caption_loss", "contrastive_loss", "matching_loss", "scale"}
    assert {f"train/{name}" for name in losses} <= set(header)


def test_the_best_checkpoint_measures_what_the_run_did(run):
    found = load_run(run[0])
    task, data = captioning_run(found)
    assert isinstance(task.model, JointModel)
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        use_distributed_sampler=False,
    )
    with torch.no_grad():
        trainer.test(task, datamodule=data, verbose=False)
    results = json.loads((run[0] / "results.json").read_text())
    for each in FIGURES:
        name = f"test/fonts/{each}"
        assert float(trainer.callback_metrics[name]) == pytest.approx(results[name], abs=1e-4)


def test_training_goes_on(run, train):
    folder = run[0].parents[3]
    more = [f"ckpt_path={run[0]}/checkpoints/last.ckpt", "test=false", "print_config=false"]
    train(folder, *SMALL, *more, "trainer.max_epochs=2")


def test_without_captions_the_best_run_is_the_one_that_finds_most(train, tmp_path):
    without = ["task.objective.captioning=0", "task.rerank=0", "callbacks=retrieval"]
    small = [each for each in SMALL if not each.startswith(("callbacks", "task.rerank"))]
    train(tmp_path, *small, *without, "optimized_metric=val/mean_recall")
    (path,) = tmp_path.glob("logs/glyphs_joint/runs/*/results.json")
    results = json.loads(path.read_text())
    assert 0 <= results["test/fonts/mean_recall"] <= 1
    assert "test/fonts/cider" not in results
    callbacks = read_checkpoint(path.parent / "checkpoints" / "last.ckpt")["callbacks"]
    (kept,) = (state for state in callbacks.values() if "best_model_score" in state)
    assert kept["monitor"] == "val/mean_recall"
    assert float(kept["best_model_score"]) == pytest.approx(results["val/mean_recall"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model=captioner"], "set model=joint"),
        (["model/fusion=gated"], "choose cross, co, merged or pooled"),
        (["task.objective.contrastive_loss=sigmoid"], "set model.bias=-10"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(train, tmp_path, overrides, message):
    small = [each for each in SMALL if not each.startswith(("model.", "callbacks"))]
    done = train(tmp_path, *small, *overrides, code=2)
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
