"""Before a classifier's run writes its results, it learns how sure its best weights may be."""

from types import SimpleNamespace

import pytest
import torch

from mmattn.cli import calibrate as module
from mmattn.cli.calibrate import batches_of, calibrate
from mmattn.errors import CheckpointError
from mmattn.tasks.classification import ClassificationTask
from mmattn.training.temperatures import Calibrated


@pytest.fixture
def fitted(monkeypatch):
    """Let fitting find the same for every task; returns how many batches it was given."""
    seen = []

    def fit(task, batches, device):
        seen.append(len(list(batches)))
        return {head: Calibrated(1.5, 0.125) for head in task.classes}

    monkeypatch.setattr(module, "fit_temperatures", fit)
    return seen


def trainer(limit=1.0):
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    return SimpleNamespace(world_size=1, limit_val_batches=limit, strategy=strategy)


def task(*heads):
    made = ClassificationTask.__new__(ClassificationTask)
    torch.nn.Module.__init__(made)
    made.classes, made.temperature = dict.fromkeys(heads), {}
    return made


DATA = SimpleNamespace(val_dataloader=lambda: list(range(8)))
calibrated = getattr(calibrate, "__wrapped__", calibrate)  # with parts that only look alike


def test_figures_are_returned_and_the_task_keeps_its_temperatures(fitted):
    one, two = task("answer"), task("case", "script")
    assert calibrated(trainer(), one, DATA) == {
        "model/temperature": 1.5,
        "val/ece_calibrated": 0.125,
    }
    assert one.temperature == {"answer": 1.5}
    assert calibrated(trainer(), two, DATA).keys() == {
        *("model/case/temperature", "model/script/temperature"),
        *("val/case/ece_calibrated", "val/script/ece_calibrated"),
    }


def test_a_run_without_validation_or_of_another_task_has_none(fitted):
    assert calibrated(trainer(0), task("answer"), DATA) == {}
    assert calibrated(trainer(), torch.nn.Identity(), DATA) == {}
    assert fitted == []


@pytest.mark.parametrize(("limit", "count"), [(1.0, 8), (3, 3), (99, 8), (0.5, 4), (1, 1)])
def test_as_much_is_looked_at_as_the_run_looks_at(fitted, limit, count):
    calibrated(trainer(limit), task("answer"), DATA)
    assert fitted == [count]
    assert batches_of(limit, 8) == count


def test_the_best_weights_are_loaded_first_and_what_hinders_that_is_a_warning(
    fitted, monkeypatch, tmp_path, caplog
):
    loaded = []
    monkeypatch.setattr(module, "load_weights", lambda task, path: loaded.append(path))
    assert calibrated(trainer(), task("answer"), DATA, best=tmp_path / "best.ckpt")
    assert loaded == [tmp_path / "best.ckpt"]

    def refuse(task, path):
        raise CheckpointError("gone")

    monkeypatch.setattr(module, "load_weights", refuse)
    assert calibrated(trainer(), task("answer"), DATA, best=tmp_path / "best.ckpt") == {}
    assert "no temperature was fitted: gone" in caplog.text
