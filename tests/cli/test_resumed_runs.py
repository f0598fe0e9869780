"""Runs that are started again in their own folder, as a user or a scheduler does it."""

import json
import shutil

import pytest

from mmattn.cli import run
from mmattn.cli.quiet import quiet_libraries
from mmattn.training.checkpoints.finding import find_checkpoint
from mmattn.training.loggers.metrics_file import read_rows

pytestmark = pytest.mark.slow


@pytest.fixture
def start(composed, small_run, tmp_path):
    """Train two epochs of two steps in a folder, or go on there; return the rows of metrics.csv."""
    folder = tmp_path / "run"
    folder.mkdir()

    def train(*overrides):
        config = composed(
            *small_run,
            *("trainer.accelerator=cpu", "trainer.enable_progress_bar=false", "print_config=false"),
            *("data.loader.batch_size=8", "trainer.limit_train_batches=2", "trainer.max_epochs=2"),
            *("trainer.limit_val_batches=1", "trainer.limit_test_batches=1"),
            *("trainer.check_val_every_n_epoch=1", "trainer.log_every_n_steps=1"),
            *("callbacks=[checkpoint,step_seed]", "callbacks.checkpoint.monitor=null"),
            *("callbacks.checkpoint.save_top_k=-1", "test=false", f"paths.output_dir={folder}"),
            *overrides,
        )
        checkpoint = find_checkpoint(config.ckpt_path, folder, tmp_path / "no other runs")
        if not run.goes_on_in(folder, checkpoint, train=True):
            run.keep_metrics(folder)
        quiet_libraries()
        run.train_and_test(config, folder, checkpoint)
        return read_rows(folder / "metrics.csv")

    return train


@pytest.mark.fault("F2")
def test_metrics_csv_beside_another_logger_goes_on_too(start, tmp_path):
    whole = start("logger=tensorboard")
    assert len(whole[1]) >= 4
    again = start("logger=tensorboard", f"ckpt_path={tmp_path}/run/checkpoints/epoch_000.ckpt")
    assert again == whole
    assert not list((tmp_path / "run").glob("metrics-until-*.csv"))


@pytest.mark.fault("F2")
def test_a_last_validation_that_was_lost_is_made_up_for_and_its_checkpoint_tested(start, tmp_path):
    """Killed between the last step and its validation; there are no other checkpoints."""
    folder = tmp_path / "run"
    last = [
        *("trainer.max_steps=4", "trainer.max_epochs=-1", "test=true", "logger=csv"),
        *("+callbacks.trace._target_=mmattn.training.trace.Trace", "+callbacks.trace.cuts=[4]"),
        f"+callbacks.trace.folder={folder}/trace",
    ]
    whole = start(*last)
    tested = json.loads((folder / "results.json").read_text())
    shutil.rmtree(folder / "checkpoints")
    assert start(*last, f"ckpt_path={folder}/trace/step-4.ckpt") == whole
    assert (folder / "checkpoints" / "epoch_001.ckpt").is_file()
    again = json.loads((folder / "results.json").read_text())
    names = [name for name in tested if name.startswith("test/")]
    assert names
    assert {name: again[name] for name in names} == {name: tested[name] for name in names}


@pytest.mark.fault("F2")
def test_a_run_that_stopped_early_and_was_killed_in_its_tests_does_not_train_on(start):
    early = [
        *("logger=csv", "callbacks=[checkpoint,step_seed,early_stopping]", "test=true"),
        *("callbacks.early_stopping.monitor=val/loss", "callbacks.early_stopping.mode=min"),
        "+callbacks.early_stopping.stopping_threshold=1e9",
    ]
    whole = start(*early)
    assert (
        max(int(row["step"]) for row in whole[1]) == 2
    )  # the tests; of four steps two are learned
    assert start(*early, "ckpt_path=auto") == whole
