"""A run begins with the weights of a model that was trained before."""

import pytest
import torch

from mmattn.cli import run
from mmattn.errors import CheckpointError, ConfigError
from mmattn.model_folder.format import read_folder

QUIET = ["trainer.accelerator=cpu", "trainer.enable_progress_bar=false", "logger=none"]
QUIET += ["print_config=false", "test=false", "callbacks=none", "trainer.limit_val_batches=0"]


@pytest.fixture
def trained(composed, small_run, tmp_path):
    """Overrides of a small run, and the folder of a model that such a run has made."""
    overrides = [*small_run, *QUIET, "trainer.max_epochs=1", "trainer.limit_train_batches=1"]
    folder = tmp_path / "trained"
    folder.mkdir()
    run.train_and_test(composed(*overrides, "seed=3"), folder, None)
    return overrides, folder


def weights(folder):
    return dict(read_folder(folder).model.named_parameters())


def test_a_run_starts_with_the_weights_that_it_is_given(composed, trained, tmp_path):
    overrides, folder = trained
    run.train_and_test(
        composed(*overrides, f"start_from={folder}", "optimizer.lr=0.0"), tmp_path, None
    )
    old, new = weights(folder), weights(tmp_path)
    assert all(torch.equal(new[name], value) for name, value in old.items())
    assert old.keys() == new.keys()


def test_weights_of_another_shape_are_refused(composed, trained, tmp_path):
    overrides, folder = trained
    config = composed(*overrides, f"start_from={folder}", "model.text.depth=2")
    with pytest.raises(CheckpointError, match=r"start_from=.*missing text\.blocks\.1"):
        run.train_and_test(config, tmp_path, None)


def test_other_tokens_are_refused_with_what_to_do(composed, trained, tmp_path):
    overrides, folder = trained
    config = composed(*overrides, f"start_from={folder}", "data.tokenizer.vocab_size=300")
    said = r"start_from=.* has another tokenizer, .* this run, of 300: set data\.tokenizer\.path"
    with pytest.raises(ConfigError, match=said):
        run.train_and_test(config, tmp_path, None)
    path = folder / "model" / "tokenizer.json"
    run.train_and_test(
        composed(*overrides, f"start_from={folder}", f"data.tokenizer.path={path}"), tmp_path, None
    )


def test_what_is_no_model_is_refused(composed, small_run, tmp_path):
    config = composed(*small_run, *QUIET, f"start_from={tmp_path / 'nothing'}")
    with pytest.raises(ConfigError, match="nothing"):
        run.train_and_test(config, tmp_path, None)
