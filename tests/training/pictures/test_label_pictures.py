"""Pictures of a classifier in a real run: of what the metrics hold, before they are reset."""

import csv
from unittest.mock import MagicMock

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image

from mmattn.training.pictures.label_pictures import LabelPictures

ALL = ["confusion", "reliability", "risk_coverage"]


@pytest.fixture
def fitted(make_label_data, make_label_task, make_trainer, tmp_path):
    """Fit and test; return the folder of the pictures, what was logged, the task."""

    def fit(heads=("colour",), logger=False, tests=("a",), epochs=1, temperature=None, **options):
        data = make_label_data(heads, tests)
        task = make_label_task(data)
        callback = LabelPictures(str(tmp_path / "pictures"), **options)
        trainer = make_trainer(callback, logger=logger, max_epochs=epochs)
        trainer.fit(task, datamodule=data)
        logged = dict(trainer.callback_metrics)
        task.temperature = temperature or {}
        trainer.test(task, datamodule=data, verbose=False)
        logged |= trainer.callback_metrics
        return tmp_path / "pictures", {k: float(v) for k, v in logged.items()}, task

    return fit


def names(folder):
    return sorted(path.stem for path in folder.glob("*.png"))


def table(path):
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_every_validation_and_test_set_has_its_pictures_and_numbers(fitted):
    """The numbers are those that the task logs itself: nothing is reset before it is drawn."""
    folder, logged, _ = fitted(epochs=2, tests=("a", "b"))
    sets = {"val": ("val", 18), "test/a": ("test-a", 12), "test/b": ("test-b", 12)}
    assert names(folder / "val" / "step-000004") == ALL
    for name, (where, total) in sets.items():
        step = folder / where / "step-000008"
        assert names(step) == sorted(path.stem for path in step.glob("*.csv")) == ALL
        for path in step.glob("*.png"):
            assert len(np.unique(np.asarray(Image.open(path)).reshape(-1, 3), axis=0)) > 10
        check_numbers(step, name, logged, total)


def check_numbers(step, name, logged, total):
    pairs = [
        (int(r["examples"]), r["class"] == r["predicted"]) for r in table(step / "confusion.csv")
    ]
    assert sum(count for count, _ in pairs) == total
    accuracy = sum(count for count, right in pairs if right) / total
    assert accuracy == pytest.approx(logged[f"{name}/accuracy"])
    gaps = [
        int(b["examples"]) * abs(float(b["accuracy"]) - float(b["confidence"]))
        for b in table(step / "reliability.csv")
    ]
    assert sum(gaps) / total == pytest.approx(logged[f"{name}/ece"], abs=1e-6)
    risks = [float(point["risk"]) for point in table(step / "risk_coverage.csv")]
    assert np.mean(risks) == pytest.approx(logged[f"{name}/aurc"])
    assert risks[-1] == pytest.approx(1 - accuracy)
    assert logged[f"{name}/risk_at_coverage_80"] == pytest.approx(risks[-(-8 * total // 10) - 1])


def test_each_kind_of_head_has_what_makes_sense(fitted):
    folder, logged, _ = fitted(("colour", "marks", "answer", "tags"), tests=("",))
    step = folder / "val" / "step-000004"
    found = {path.name: names(path) for path in step.iterdir()}
    assert found == {"colour": ALL, "answer": ALL[1:], "tags": ALL[:1]}
    assert {
        "val/colour/aurc",
        "val/answer/aurc",
        "test/answer/risk_at_coverage_80",
    } <= logged.keys()
    assert not [key for key in logged if "aurc" in key and ("marks" in key or "tags" in key)]
    soft = table(step / "answer" / "risk_coverage.csv")
    assert 1 - float(soft[-1]["risk"]) == pytest.approx(logged["val/answer/vqa_accuracy"])


def test_a_test_with_temperatures_shows_them_beside(fitted):
    folder, logged, _ = fitted(temperature={"colour": 2.5})
    rows = table(folder / "test-a" / "step-000004" / "reliability.csv")
    assert {float(row["temperature"]) for row in rows} == {1.0, 2.5}
    assert logged["test/a/ece_calibrated"] != pytest.approx(logged["test/a/ece"])
    assert "val/ece_calibrated" not in logged


def test_the_model_runs_no_more_often_than_without(
    make_label_data, make_label_task, make_trainer, tmp_path
):
    def passes(*callbacks):
        data = make_label_data()
        task, seen = make_label_task(data), []
        task.model.register_forward_hook(lambda *_: seen.append(1))
        torch.manual_seed(1)
        trainer = make_trainer(*callbacks)
        trainer.fit(task, datamodule=data)
        trainer.test(task, datamodule=data, verbose=False)
        return len(seen), [value.clone() for value in task.model.parameters()]

    plain, drawn = passes(), passes(LabelPictures(str(tmp_path)))
    assert plain[0] == drawn[0]
    assert all(torch.equal(a, b) for a, b in zip(plain[1], drawn[1], strict=True))


def test_every_nth_validation_is_drawn_also_after_resuming(fitted, tmp_path):
    folder, logged, _ = fitted(epochs=2, every_n_validations=2, test=False)
    assert [str(p.relative_to(folder)) for p in folder.glob("*/*")] == ["val/step-000004"]
    assert {"val/aurc", "test/a/aurc"} <= logged.keys()  # figures are logged every time
    state = {"validations": 1}
    callback = LabelPictures("unused", every_n_validations=2)
    callback.load_state_dict(state)
    assert callback.state_dict() == state
    assert [callback._every.next() for _ in range(3)] == [False, True, False]


def test_a_sanity_check_draws_nothing(make_label_data, make_label_task, make_trainer, tmp_path):
    data = make_label_data()
    trainer = make_trainer(
        LabelPictures(str(tmp_path / "pictures")),
        num_sanity_val_steps=2,
        limit_train_batches=1,
        check_val_every_n_epoch=5,
    )
    trainer.fit(make_label_task(data), datamodule=data)
    assert not (tmp_path / "pictures").exists()


def test_loggers_show_them_and_one_that_fails_stops_nothing(fitted, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    class Fails(TensorBoardLogger):
        """A board that breaks at pictures."""

        experiment = MagicMock(**{"add_image.side_effect": ConnectionError("no route to host")})

    board = TensorBoardLogger(tmp_path, name="tb", version="", default_hp_metric=False)
    folder, _, _ = fitted(logger=[Fails(tmp_path, name="x", version=""), board])
    events = EventAccumulator(str(tmp_path / "tb")).Reload()
    shown = {f"pictures/{name}/{each}/0" for name in ("val", "test/a") for each in ALL}
    assert shown <= set(events.Tags()["images"])
    assert names(folder / "test-a" / "step-000004") == ALL


def test_a_disk_that_fails_stops_nothing(
    make_label_data, make_label_task, make_trainer, tmp_path, caplog
):
    (tmp_path / "file").touch()
    data = make_label_data()
    trainer: L.Trainer = make_trainer(LabelPictures(str(tmp_path / "file")))
    trainer.fit(make_label_task(data), datamodule=data)
    assert trainer.global_step == 4
    assert len([line for line in caplog.messages if "is not written" in line]) == 1
