from unittest.mock import MagicMock

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image

from mmattn.training.pictures.curve import TrainingCurve, draw

TASK = L.LightningModule()


def trainer(step, *, sanity_checking=False, is_global_zero=True, **metrics):
    fake = MagicMock(spec=L.Trainer)
    fake.global_step, fake.log_every_n_steps = step, 10
    fake.sanity_checking, fake.is_global_zero = sanity_checking, is_global_zero
    fake.callback_metrics = {name.replace("__", "/"): value for name, value in metrics.items()}
    return fake


@pytest.fixture
def curve(tmp_path):
    return TrainingCurve(str(tmp_path / "run" / "curve.png"), ["val/exact_match"])


def test_a_validation_writes_a_picture(curve):
    for step in (10, 20):
        curve.on_train_batch_end(trainer(step, train__loss=1.0 / step), TASK, None, None, 0)
    curve.on_validation_end(trainer(20, val__loss=0.5, val__exact_match=0.25), TASK)
    picture = np.asarray(Image.open(curve.path))
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 10  # lines and text, not blank paper


def test_the_loss_is_noted_as_often_as_the_loggers_do(curve):
    for step in range(1, 31):
        curve.on_train_batch_end(trainer(step, train__loss=float(step)), TASK, None, None, 0)
    assert curve._series["train/loss"] == [(10, 10.0), (20, 20.0), (30, 30.0)]


def test_batches_that_accumulate_gradients_share_one_point(curve):
    for loss in (3.0, 2.0, 1.0):
        curve.on_train_batch_end(trainer(10, train__loss=loss), TASK, None, None, 0)
    assert curve._series["train/loss"] == [(10, 1.0)]


def test_a_score_that_a_data_set_does_not_have_is_left_out(curve):
    curve.on_validation_end(trainer(5, val__loss=0.5), TASK)
    assert curve._series["val/exact_match"] == []
    assert curve.path.is_file()


@pytest.mark.parametrize("state", [{"sanity_checking": True}, {"is_global_zero": False}])
def test_a_sanity_check_and_other_ranks_draw_nothing(curve, state):
    curve.on_validation_end(trainer(5, val__loss=0.5, **state), TASK)
    assert not curve.path.exists()


def test_more_points_give_another_picture():
    few = draw({"train/loss": [(1, 1.0)], "val/loss": [], "s": []}, ["s"])
    more = draw({"train/loss": [(1, 1.0), (9, 0.1)], "val/loss": [], "s": [(9, 0.5)]}, ["s"])
    assert few.shape == more.shape
    assert not np.array_equal(few, more)


def test_a_resumed_run_goes_on_with_its_curves(curve, tmp_path):
    curve.on_train_batch_end(trainer(10, train__loss=1.0), TASK, None, None, 0)
    curve.on_validation_end(trainer(10, val__loss=0.5, val__exact_match=0.25), TASK)
    torch.save(curve.state_dict(), tmp_path / "state")
    resumed = TrainingCurve(str(tmp_path / "curve.png"), ["val/exact_match", "val/bleu_4"])
    resumed.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    resumed.on_train_batch_end(trainer(20, train__loss=0.4), TASK, None, None, 0)
    assert resumed._series["train/loss"] == [(10, 1.0), (20, 0.4)]
    assert resumed._series["val/exact_match"] == [(10, 0.25)]
    assert resumed._series["val/bleu_4"] == []


def test_a_disk_that_fails_does_not_end_the_run(tmp_path, caplog):
    (tmp_path / "file").touch()
    curve = TrainingCurve(str(tmp_path / "file" / "curve.png"), [])
    for step in (5, 10):
        curve.on_validation_end(trainer(step, val__loss=0.5), TASK)
    (said,) = caplog.messages
    assert "curve.png is not written" in said
