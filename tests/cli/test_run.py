import json
import logging
import warnings

import pytest
import wandb
from hydra import compose, initialize_config_dir
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint, RichProgressBar
from omegaconf import OmegaConf

from mmattn.cli import run, schema
from mmattn.errors import ConfigError, DataError, UserError


@pytest.fixture
def composed(tmp_path, monkeypatch):
    """The configuration of a run in an empty folder."""
    schema.register()
    monkeypatch.chdir(tmp_path)

    def make(*overrides):
        with initialize_config_dir(str(schema.config_dir()), version_base="1.3"):
            return compose("train", [f"paths.output_dir={tmp_path}", *overrides])

    return make


def names(callbacks):
    return {type(callback) for callback in callbacks}


def test_a_part_is_built():
    config = OmegaConf.create(
        {"_target_": "mmattn.patches.LinearPatches", "patch_size": 4, "dim": 8}
    )
    assert run.build(config, "x").dim == 8


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
        run.build(root.model.inner, "model.inner")
    assert "\n" not in str(caught.value)


def test_a_callback_stays_away_where_the_trainer_has_no_use_for_it(composed):
    kinds = {RichProgressBar, ModelCheckpoint, LearningRateMonitor}
    everything = run.build_trainer(composed("trainer.accelerator=cpu"))
    assert kinds <= names(run.callbacks(everything))
    quiet = run.build_trainer(
        composed(
            *("trainer.accelerator=cpu", "logger=none"),
            *("trainer.enable_progress_bar=false", "trainer.enable_checkpointing=false"),
        )
    )
    assert not kinds & names(run.callbacks(quiet))


def test_wandb_is_not_told_what_it_warns_of(composed, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    (logger,) = run.build_trainer(composed("trainer.accelerator=cpu", "logger=wandb")).loggers
    assert "anonymous" not in logger._wandb_init


def test_a_wandb_run_ends_with_its_job(composed, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    config = composed("trainer.accelerator=cpu", "logger=wandb")
    OmegaConf.update(config, "model.text.vocab_size", 3)
    model = run.build(config.model, "model")
    ids = []
    for fails in (False, True, False):
        trainer = run.build_trainer(config)
        if fails:
            with pytest.raises(DataError), run.logged(trainer, config, model):
                raise DataError("in the middle")
        else:
            with run.logged(trainer, config, model):
                ids.append(wandb.run.id)
                assert wandb.run.config["parameters/total"] == sum(
                    p.numel() for p in model.parameters()
                )
        assert wandb.run is None
    assert len(set(ids)) == 2


def test_the_metrics_of_an_earlier_run_here_are_kept(tmp_path):
    run.keep_metrics(tmp_path)
    (tmp_path / "metrics.csv").write_text("old")
    run.keep_metrics(tmp_path)
    (kept,) = tmp_path.glob("metrics-until-*.csv")
    assert kept.read_text() == "old"
    assert not (tmp_path / "metrics.csv").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    run.check_writable(tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ConfigError, match=r"absent .*choose another with paths\.log_dir="):
        run.check_writable(tmp_path / "absent")


def test_lightning_speaks_through_hydras_log_only(monkeypatch):
    logger = logging.getLogger("lightning")
    monkeypatch.setattr(logger, "handlers", [logging.StreamHandler()])
    with warnings.catch_warnings():
        run.quiet_libraries()
        warnings.warn("The 'x' does not have many workers which", stacklevel=1)
        with pytest.warns(UserWarning, match="something else"):
            warnings.warn("something else", stacklevel=1)
    assert logger.handlers == []
    assert logger.propagate


def test_the_resolved_configuration_is_kept_and_shown(composed, tmp_path, capsys):
    config = composed("seed=5", "tags=[a]")
    run.show_config(config, tmp_path)
    kept = OmegaConf.load(tmp_path / "config.yaml")
    assert kept.data.seed == kept.callbacks.step_seed.seed == 5
    assert "seed: 5" in capsys.readouterr().out
    config.print_config = False
    run.show_config(config, tmp_path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("wanted", "found"), [("val/cider", 2.5), ("val/x", None), (None, None)])
def test_a_sweep_gets_the_figure_it_asked_for(composed, tmp_path, wanted, found):
    config = composed("trainer.accelerator=cpu")
    config.optimized_metric = wanted
    trainer = run.build_trainer(config)
    assert run.finish(trainer, config, tmp_path, {"val/cider": 2.5}) == found
    assert json.loads((tmp_path / "results.json").read_text()) == {"val/cider": 2.5}
