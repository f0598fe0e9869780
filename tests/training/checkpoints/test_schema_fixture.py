"""Checkpoints of every released schema are still read, and gone on from."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch

from mmattn.tasks.migrations import SCHEMA
from mmattn.training.checkpoints.content import read_checkpoint
from mmattn.training.checkpoints.finding import check_checkpoint, load_weights

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="module")
def made():
    """The script that made the files; it knows the task and the data."""
    spec = spec_from_file_location("make_schema_fixture", HERE / "make_schema_fixture.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_there_is_one_of_each_schema_and_it_is_small():
    found = sorted(path.name for path in HERE.glob("schema_*.pt"))
    assert found == [f"schema_{n}.pt" for n in range(1, SCHEMA + 1)]
    assert all((HERE / name).stat().st_size < 40_000 for name in found)


@pytest.mark.fault("F26")
@pytest.mark.parametrize("schema", range(1, SCHEMA + 1))
def test_its_weights_score_as_they_did(made, schema):
    path, data = HERE / f"schema_{schema}.pt", made.make_data()
    task = made.make_task(data)
    before = made.scores(task, data)
    load_weights(task, path)
    wanted = read_checkpoint(path)["scores"]
    assert torch.allclose(made.scores(task, data), wanted, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(before, wanted, rtol=1e-2, atol=1e-2)


@pytest.mark.fault("F26")
@pytest.mark.parametrize("schema", range(1, SCHEMA + 1))
def test_a_run_goes_on_from_it(made, schema):
    path, data = HERE / f"schema_{schema}.pt", made.make_data()
    task = made.make_task(data)
    check_checkpoint(task, path, data)
    trainer = made.make_trainer()
    trainer.fit(task, datamodule=data, ckpt_path=path, weights_only=True)
    assert trainer.global_step == made.STEPS
    saved, found = read_checkpoint(path)["state_dict"], task.state_dict()
    moved = [(found[name] - saved[name]).abs().max().item() for name in saved]
    assert 0.001 < max(moved) < 0.05  # one step of AdamW with a learning rate of 0.01
    (state,) = {int(of["step"]) for of in trainer.optimizers[0].state.values()}
    assert state == made.STEPS
