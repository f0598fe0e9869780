"""Ways to learn as users choose them: a student of another run's captioner, with every method."""

import csv
import json

import pytest

from mmattn import load
from mmattn.training.checkpoints.finding import read_checkpoint

pytestmark = pytest.mark.slow  # each is a run of train.py

SMALL = [
    "data.source.fonts=[DejaVuSans,DejaVuSerif]",
    "data.source.held_out_fonts=[DejaVuSans-Bold]",
    "model.vision.patches.dim=16",
    "model.vision.patches.channels_out=[8,8]",
    "model.text.dim=16",
    "model.text.context_dim=16",
    "model.text.depth=1",
    "++model.text.block.dropout=0.1",
    "data.loader.batch_size=16",
    "trainer.accelerator=cpu",
    "trainer.max_epochs=1",
    "trainer.check_val_every_n_epoch=1",
    "trainer.limit_train_batches=4",
    "trainer.limit_val_batches=1",
    "trainer.log_every_n_steps=1",
    "trainer.enable_progress_bar=false",
    "callbacks=[default,shuffled_images,ema]",
    "callbacks.attention=null",
    "callbacks.heads=null",
    "callbacks.grounding=null",
    "test=false",
]
METHODS = [
    *("label_smoothing", "drop_worst", "word_dropout", "scheduled_sampling", "parallel_prediction"),
    *("r_drop", "distillation", "extra_captions"),
]
TEACHER = "task.cross_entropy.distillation.teacher"


@pytest.fixture(scope="module")
def teacher(tmp_path_factory, train):
    """The folder of a run, to learn from."""
    folder = tmp_path_factory.mktemp("teacher")
    train(folder, *SMALL)
    (path,) = folder.glob("logs/caption/runs/*")
    return path


def rows(run):
    with (run / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_student_learns_in_all_ways_at_once(teacher, tmp_path, train):
    taught = tmp_path / "taught.jsonl"
    taught.write_text(json.dumps({"image": "DejaVuSans/U+0041", "caption": "a letter"}) + "\n")
    train(
        tmp_path,
        *SMALL,
        f"method=[{','.join(METHODS)}]",
        f"{TEACHER}={teacher}",
        f"data.extra_captions.path={taught}",
        "model.text.depth=2",
        "task.cross_entropy.scheduled_sampling.start=0",
    )
    (run,) = tmp_path.glob("logs/caption/runs/*")
    logged = rows(run)
    probabilities = [row["train/sampling_probability"] for row in logged]
    found = [float(each) for each in probabilities if each]
    assert found == pytest.approx([0.0, 0.0625, 0.125, 0.1875])
    for name in ("r_drop", "distillation"):
        assert any(row[f"train/{name}"] for row in logged)
    for name in ("shuffled_loss", "distinct_captions", "distinct_words"):
        assert any(row[f"val/{name}"] for row in logged)
    assert load(run / "model").bundle.model.text.depth == 2
    content = read_checkpoint(next((run / "checkpoints").glob("epoch*.ckpt")))
    names = {name.split(".")[1] for name in content["state_dict"] if name.startswith("model.")}
    assert names <= {"vision", "text", "bridge"}
    assert not [name for name in content["state_dict"] if "teacher" in name]


def test_a_teacher_that_does_not_fit_is_one_line(teacher, tmp_path, train):
    options = ["method=[distillation]", f"{TEACHER}={teacher}", "data.tokenizer.vocab_size=300"]
    done = train(tmp_path, *SMALL, *options, code=2)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert "has another tokenizer" in line
