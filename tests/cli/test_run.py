import json

import pytest
import wandb
from omegaconf import OmegaConf

from mmattn.cli import run
from mmattn.cli.build import build, build_trainer
from mmattn.errors import ConfigError, DataError


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
