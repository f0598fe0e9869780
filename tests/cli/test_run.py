import json

import pytest
import torch
import wandb
from omegaconf import OmegaConf

from mmattn.cli import run
from mmattn.cli.build import build, build_trainer
from mmattn.errors import ConfigError, DataError
from mmattn.model_folder.format import read_folder
from mmattn.training.checkpoints.finding import read_checkpoint
from mmattn.training.loggers import wandb_guard
from mmattn.training.loggers.logger_guard import guard_of


def test_a_wandb_run_ends_with_its_job(composed, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    config = composed("trainer.accelerator=cpu", "logger=wandb")
    OmegaConf.update(config, "model.text.vocab_size", 3)
    model = build(config.model, "model")
    ids = []
    for fails in (False, True, False):
        trainer = build_trainer(config)
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


@pytest.mark.fault("F29")
def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    run.check_writable(tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ConfigError, match=r"absent .*choose another with paths\.log_dir="):
        run.check_writable(tmp_path / "absent")


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
    trainer = build_trainer(config)
    assert run.finish(trainer, config, tmp_path, {"val/cider": 2.5}) == found
    assert json.loads((tmp_path / "results.json").read_text()) == {"val/cider": 2.5}


@pytest.mark.fault("F8")
def test_other_ranks_wait_longer_than_all_loggers_may_take_to_end(composed, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    config = composed("trainer.accelerator=cpu", "logger=many", "logger_timeout=7")
    guards = [guard_of(logger, 7.0) for logger in build_trainer(config).loggers]
    # Each waits for room in its queue, and then for what it put there.
    longest = sum(2 * guard._patience for guard in guards)
    assert 2 * (7 + wandb_guard.GRACE) < longest <= run.logger_end(config)


TINY = [
    "data.source.fonts=[DejaVuSans,DejaVuSerif]",
    "data.source.held_out_fonts=[DejaVuSans-Bold]",
    "data.source.categories=[Lu]",
    *("model.text.depth=1", "model.text.dim=16", "trainer.accelerator=cpu"),
    *("trainer.enable_progress_bar=false", "logger=none", "print_config=false", "test=false"),
]


def test_a_run_without_a_test_ends_with_its_best_weights(composed, tmp_path):
    config = composed(
        *TINY,
        *("trainer.max_epochs=2", "trainer.limit_train_batches=1", "trainer.limit_val_batches=1"),
        *("trainer.check_val_every_n_epoch=1", "callbacks=checkpoint"),
        # the first epoch is the best, whatever it learns
        *("callbacks.checkpoint.monitor=epoch", "callbacks.checkpoint.mode=min"),
        "callbacks.checkpoint.save_top_k=2",
    )
    run.train_and_test(config, tmp_path, None)
    found = read_folder(tmp_path).model.state_dict()
    same = {}
    for name in ("epoch_000.ckpt", "epoch_001.ckpt"):
        state = read_checkpoint(tmp_path / "checkpoints" / name)["state_dict"]
        same[name] = all(torch.equal(v, state[f"model.{key}"]) for key, v in found.items())
    assert same == {"epoch_000.ckpt": True, "epoch_001.ckpt": False}
    assert "## Measured" not in (tmp_path / "model" / "README.md").read_text()


@pytest.mark.parametrize("override", ["train=false", "trainer.fast_dev_run=1"])
def test_what_trains_nothing_in_earnest_writes_no_model(composed, tmp_path, override):
    config = composed(*TINY, "callbacks=none", override)
    run.train_and_test(config, tmp_path, None)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ("true", r"distillation\.teacher=somewhere: somewhere does not exist"),
        ("false", "keeps the features of a frozen backbone"),  # what is not read is not refused
    ],
)
def test_a_teacher_is_refused_before_features_are_computed(composed, tmp_path, train, said):
    teacher = "task.cross_entropy.distillation.teacher=somewhere"
    cached = ["method=[distillation]", teacher, f"feature_cache={tmp_path}/cache", f"train={train}"]
    with pytest.raises(ConfigError, match=said):
        run.train_and_test(composed(*TINY, "callbacks=none", *cached), tmp_path, None)
