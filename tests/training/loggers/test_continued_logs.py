"""Loggers of a run that goes on in its own folder."""

import os

import numpy as np
import pytest
import torch
import wandb
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mmattn.training.loggers.continued_logs import STATE, go_on_logging, run_ids
from mmattn.training.loggers.metrics_file import MetricsFile, read_rows
from mmattn.training.loggers.wandb_guard import WandbGuard, tear_down


def file_in(folder):
    return MetricsFile(str(folder), name="", version="")


def log(logger, steps, key="train/loss"):
    for step in steps:
        logger.log_metrics({key: torch.tensor(step / 10)}, step)
        logger.save()


def checkpoint(step, **state):
    return {"global_step": step, "callbacks": {STATE: state} if state else {}}


def test_a_file_goes_on_with_its_rows_and_new_columns(tmp_path):
    first = file_in(tmp_path)
    log(first, range(3))
    assert first.rows == 3
    second = file_in(tmp_path)
    assert second.rows == 3
    log(second, [3], "val/loss")
    names, rows = read_rows(tmp_path / "metrics.csv")
    assert names == ["step", "train/loss", "val/loss"]
    assert [row["step"] for row in rows] == ["0", "1", "2", "3"]
    assert [row["val/loss"][:3] for row in rows] == ["", "", "", "0.3"]


@pytest.mark.parametrize("state", [{"rows": 3}, {}], ids=["counted", "by step"])
def test_rows_behind_the_checkpoint_are_dropped_also_half_a_row(tmp_path, state):
    log(file_in(tmp_path), range(5))
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("6,0.")  # killed here
    logger = file_in(tmp_path)
    go_on_logging([logger], checkpoint(3, **state))
    log(logger, [3])
    assert [row["step"] for row in read_rows(tmp_path / "metrics.csv")[1]] == ["0", "1", "2", "3"]


def test_a_curve_that_lost_its_beginning_is_warned_of(tmp_path, caplog):
    log(file_in(tmp_path), range(2))
    go_on_logging([file_in(tmp_path)], checkpoint(7, rows=7))
    assert "metrics.csv has 2 rows, and 7 when the checkpoint was written" in caplog.text


def test_tensorboard_forgets_what_comes_again(tmp_path):
    first, second = (TensorBoardLogger(str(tmp_path), name="", version="") for _ in range(2))
    log(first, range(10))
    first.finalize("killed")
    go_on_logging([second], checkpoint(7, rows=None))
    log(second, [8])
    second.finalize("success")
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in events.Scalars("train/loss")] == list(range(9))


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """Make a W&B logger that is offline by itself, not by the environment."""
    monkeypatch.delenv("WANDB_MODE")
    yield lambda: WandbLogger(save_dir=str(tmp_path), project="p", offline=True)
    tear_down()


def test_wandb_goes_on_with_the_same_run_and_its_steps(tmp_path, offline):
    first = WandbGuard(offline(), 60.0)
    assert run_ids([file_in(tmp_path), first.logger]) == {}  # it has no run yet
    first.start({})
    log(first.logger, range(3))
    ids = run_ids([file_in(tmp_path), first.logger])
    assert ids == {"wandb": first.logger.experiment.id, "wandb_step": 3}
    first.end(failed=False)

    logger = offline()
    go_on_logging([logger], checkpoint(3, **ids))
    second = WandbGuard(logger, 60.0)
    second.start({})
    assert logger.experiment.id == ids["wandb"]
    log(logger, [3])
    second._wait(lambda: None, 60.0)  # until it is logged
    assert logger.experiment.step == 4
    assert run_ids([logger]) == ids | {"wandb_step": 4}
    second.end(failed=False)


def test_a_wandb_run_that_goes_on_is_begun_by_its_guard_and_not_before(offline):
    logger = offline()
    go_on_logging([logger], checkpoint(3, wandb="theirs", wandb_step=3))
    assert logger.version == "theirs"
    assert logger._experiment is None
    assert wandb.run is None
    assert "WANDB_MODE" not in os.environ  # which would count for a sweep's next run


def test_every_kind_of_call_is_counted_as_the_step_that_it_takes(offline):
    guard = WandbGuard(offline(), 60.0)
    guard.start({"seed": 1})
    logger = guard.logger
    logger.log_metrics({"x": 1.0}, 1)
    logger.log_image("picture", [np.zeros((2, 2, 3), np.uint8)], step=1)
    logger.log_text("words", ["a"], [["b"]], step=2)
    logger.save()
    guard._wait(lambda: None, 60.0)
    assert run_ids([logger])["wandb_step"] == logger.experiment.step == guard._logged == 3
    guard.end(failed=False)


def test_an_id_in_the_configuration_wins(tmp_path):
    logger = WandbLogger(save_dir=str(tmp_path), project="p", id="mine", offline=True)
    go_on_logging([logger], checkpoint(3, wandb="theirs", wandb_step=3))
    assert logger.version == "mine"
