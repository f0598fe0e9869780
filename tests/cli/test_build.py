import pytest
from lightning.pytorch.callbacks import (
    LearningRateMonitor,
    RichProgressBar,
)
from omegaconf import OmegaConf

from mmattn.cli.build import build, build_trainer, check_views
from mmattn.errors import ConfigError, UserError
from mmattn.training.averaged_weights import AveragedWeights
from mmattn.training.checkpoints.callback import Checkpoints
from mmattn.training.checkpoints.resume_point import ResumePoint
from mmattn.training.parts import callbacks_of
from mmattn.training.pictures.attention_logger import AttentionLogger
from mmattn.training.pictures.head_statistics import HeadStatisticsLogger
from mmattn.training.processes.shared_buffers import SharedBuffers
from mmattn.training.stopping.preemption import Preemption


def names(callbacks):
    return {type(callback) for callback in callbacks}


def test_a_part_is_built():
    config = OmegaConf.create(
        {"_target_": "mmattn.patches.LinearPatches", "patch_size": 4, "dim": 8}
    )
    assert build(config, "x").dim == 8


@pytest.mark.parametrize(
    ("part", "error", "said"),
    [
        (
            {"_target_": "mmattn.data.tokenizer.CaptionTokenizer.load", "path": "absent.json"},
            UserError,
            "^absent.json: no such file",
        ),
        (
            {"_target_": "mmattn.patches.ConvStem", "channels_out": [1], "strides": [], "dim": 4},
            ConfigError,
            "^model.inner: channels_out has 1 entries",
        ),
        (
            {"_target_": "mmattn.patches.LinearPatches", "patch_size": 4},
            ConfigError,
            "^model.inner: .*missing .* argument: 'dim'",
        ),
        (
            {"_target_": "mmattn.patches.LinearPatches", "patch_size": 4, "dim": -1},
            ConfigError,
            "^model.inner: RuntimeError: .*negative dimension",
        ),
    ],
)
def test_what_a_constructor_refuses_is_one_line_with_the_key(part, error, said):
    root = OmegaConf.create({"model": {"inner": part}})
    with pytest.raises(error, match=said) as caught:
        build(root.model.inner, "model.inner")
    assert "\n" not in str(caught.value)


def test_a_callback_stays_away_where_the_trainer_has_no_use_for_it(composed):
    kinds = {RichProgressBar, Checkpoints, LearningRateMonitor}
    everything = build_trainer(composed("trainer.accelerator=cpu"))
    assert kinds <= names(callbacks_of(everything))
    quiet = build_trainer(
        composed(
            *("trainer.accelerator=cpu", "logger=none"),
            *("trainer.enable_progress_bar=false", "trainer.enable_checkpointing=false"),
        )
    )
    assert not kinds & names(callbacks_of(quiet))


def test_what_is_set_to_null_stays_away(composed):
    trainer = build_trainer(composed("callbacks.curve=null", "callbacks.throughput=null"))
    kinds = {type(callback).__name__ for callback in trainer.callbacks}
    assert not {"Throughput", "TrainingCurve"} & kinds
    assert "StepSeed" in kinds
    assert build_trainer(composed("logger.csv=null")).loggers == []


def test_wandb_is_not_told_what_it_warns_of(composed, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    logger, _ = build_trainer(composed("trainer.accelerator=cpu", "logger=wandb")).loggers
    assert "anonymous" not in logger._wandb_init


@pytest.mark.parametrize("order", ["[default,ema]", "[ema,default]"])
def test_averaged_weights_leave_after_what_looks_at_them(composed, order):
    trainer = build_trainer(composed("trainer.accelerator=cpu", f"callbacks={order}"))
    order = [type(callback) for callback in callbacks_of(trainer)]
    assert order[:3] == [ResumePoint, SharedBuffers, Preemption]
    assert order.index(AveragedWeights) > order.index(AttentionLogger)
    assert order.index(AveragedWeights) > order.index(HeadStatisticsLogger)


@pytest.mark.parametrize(
    "views",
    [["feature_views=2"], ["feature_mirrored=true"], ["feature_views=-1", "feature_cache=f"]],
)
def test_views_that_nothing_keeps_are_refused(composed, views):
    with pytest.raises(ConfigError, match=r"feature_views=-?\d and .* are copies of training"):
        check_views(composed(*views))
