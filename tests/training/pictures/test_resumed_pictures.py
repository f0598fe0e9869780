"""A run that was cut and resumed: curves and counts go on where its checkpoint was."""

import csv
from collections import Counter

import pytest
from lightning.pytorch.callbacks import ModelCheckpoint

from mmattn.training.checkpoints.resume_point import ResumePoint
from mmattn.training.pictures.attention_logger import AttentionLogger
from mmattn.training.pictures.head_statistics import HeadStatisticsLogger
from mmattn.training.pictures.probes import Probes

pytestmark = pytest.mark.filterwarnings(
    "ignore:Checkpoint directory .* exists and is not empty", "ignore:The dirpath has changed"
)
AFTER = {"save_on_train_epoch_end": False}  # the validation of that step
BEFORE = {"every_n_train_steps": 6}  # which is done again


@pytest.fixture
def fit(make_data, make_task, make_trainer, tmp_path):
    """Fit, six steps an epoch, in the folder of this test; keep a checkpoint of every epoch."""

    def run(callback, epochs, keep=AFTER, go_on_from=None):
        data = make_data()
        checkpoint = ModelCheckpoint(tmp_path / "kept", "{step}", save_top_k=-1, **keep)
        parts = (ResumePoint(), callback, checkpoint)
        trainer = make_trainer(*parts, max_epochs=epochs, enable_checkpointing=True)
        path = go_on_from and tmp_path / "kept" / f"step={go_on_from}.ckpt"
        trainer.fit(make_task(data), datamodule=data, ckpt_path=path, weights_only=True)
        return trainer, data

    return run


@pytest.fixture
def heads(tmp_path):
    return lambda size=2: HeadStatisticsLogger(str(tmp_path / "heads"), probes=Probes(size=size))


def rows(folder):
    with (folder / "heads" / "heads.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("keep", [AFTER, BEFORE], ids=["after", "before"])
def test_a_resumed_run_goes_on_with_its_heads(fit, heads, tmp_path, keep):
    fit(heads(), 3, keep)  # and dies; its last checkpoint was that of step 6
    first = rows(tmp_path)
    resumed = heads()
    fit(resumed, 2, keep, go_on_from=6)
    found = rows(tmp_path)
    sites = ("vision.0.self", "text.0.self", "text.0.cross")
    assert Counter((row["step"], row["site"], row["head"]) for row in found) == Counter(
        (step, site, head) for step in ("6", "12") for site in sites for head in "01"
    )
    assert [row for row in found if row["step"] == "6"] == first[:6]
    for kind, history in resumed.state_dict().items():
        of_kind = [row for row in found if row["site"] == kind.replace("*", "0")]
        in_file = [float(row["entropy"]) for row in of_kind]
        assert [step for step, _ in history] == [6, 12]
        entropies = [entropy for _, layers in history for entropy in layers[0]]
        assert entropies == pytest.approx(in_file, rel=1e-5)


def test_a_run_that_begins_anew_in_its_folder_begins_its_heads_anew(fit, heads, tmp_path):
    fit(heads(), 2)
    fit(heads(), 1)
    assert {row["step"] for row in rows(tmp_path)} == {"6"}
    assert len(rows(tmp_path)) == 6


def test_a_step_that_is_measured_twice_has_its_rows_once(fit, heads, tmp_path, make_task):
    callback = heads()
    trainer, data = fit(callback, 1)
    first = rows(tmp_path)
    trainer.validate(make_task(data), datamodule=data, verbose=False)  # of other weights
    second = rows(tmp_path)
    assert len(first) == len(second) == 6
    assert first != second
    assert {len(history) for history in callback.state_dict().values()} == {1}


def test_heads_on_other_images_do_not_go_on_from_these(fit, heads):
    fit(heads(), 1)
    other = heads(size=3)
    with pytest.warns(UserWarning, match="callbacks used to create the checkpoint"):
        fit(other, 2, go_on_from=6)
    assert [step for step, _ in other.state_dict()["text.*.cross"]] == [12]


def test_every_second_validation_is_every_second_of_the_whole_run(fit, tmp_path):
    def maps(folder):
        folder = str(tmp_path / folder)
        return AttentionLogger(folder, probes=Probes(size=1), every_n_validations=2, viewer=False)

    fit(maps("first"), 1)
    fit(maps("second"), 3, go_on_from=6)
    assert [path.name for path in (tmp_path / "first").iterdir()] == ["step-000006"]
    assert [path.name for path in (tmp_path / "second").iterdir()] == ["step-000018"]
