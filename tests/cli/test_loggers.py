"""Loggers that contradict themselves, and loggers whose package is not there."""

import sys

import pytest

from mmattn.cli.build import build_loggers
from mmattn.cli.loggers import check_loggers
from mmattn.errors import ConfigError
from mmattn.training.loggers.metrics_file import MetricsFile

pytestmark = pytest.mark.fault("F23")


@pytest.mark.parametrize("log_model", ["all", "true"])
def test_checkpoints_of_an_offline_run_cannot_be_uploaded(composed, log_model):
    config = composed(
        "logger=wandb", "logger.wandb.offline=true", f"logger.wandb.log_model={log_model}"
    )
    with pytest.raises(ConfigError, match=r"logger\.wandb\.log_model=.*offline=true") as caught:
        check_loggers(config)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "overrides",
    [
        ["logger=wandb", "logger.wandb.offline=true"],
        ["logger=wandb", "logger.wandb.offline=false", "logger.wandb.log_model=all"],
        ["logger=wandb", "logger.wandb=null"],
        ["logger=none"],
        ["logger=many"],
    ],
)
def test_loggers_that_agree_with_themselves_pass(composed, overrides):
    check_loggers(composed(*overrides))


def test_a_logger_whose_package_is_missing_is_left_out(composed, monkeypatch, caplog):
    import lightning.pytorch.loggers.wandb as module

    monkeypatch.setattr(module, "_WANDB_AVAILABLE", type(module._WANDB_AVAILABLE)("absent>=1"))
    monkeypatch.setitem(sys.modules, "trackio", None)
    (logger,) = build_loggers(composed("logger=[csv,trackio]"))
    assert isinstance(logger, MetricsFile)
    (line,) = caplog.messages
    assert line.startswith("trackio: ")
    assert "pip install 'mmattn[trackio]'" in line
    assert line.endswith("training goes on without it")
    (logger,) = build_loggers(composed("logger=wandb"))
    assert isinstance(logger, MetricsFile)
    assert len(caplog.messages) == 2


def test_metrics_csv_is_there_beside_any_other_logger(composed, tmp_path):
    kinds = [type(logger).__name__ for logger in build_loggers(composed("logger=tensorboard"))]
    assert kinds == ["TensorBoardLogger", "MetricsFile"]  # which a run that is resumed goes on with
    assert len(build_loggers(composed("logger=many"))) == 3
    assert build_loggers(composed("logger=none")) == []
    (logger,) = build_loggers(composed("logger=csv"))
    assert logger.log_dir.rstrip("/") == str(tmp_path)


def test_a_mistake_in_a_loggers_settings_is_still_one(composed):
    with pytest.raises(ConfigError, match=r"logger\.csv"):
        build_loggers(composed("+logger.csv.flush_logs_every_n_steps=abc", "+logger.csv.x=1"))
