"""Eight examples are one step, whether one batch holds them, two in turn, or one of two ranks each.

Captions here have equally many tokens. Elsewhere a step is the mean of the means of its batches, as
in all that is built on DDP: a caption counts a little more in the batch that has fewer tokens.
"""

from functools import partial

import numpy as np
import pytest
import torch

from mmattn.training.pictures.attention_logger import AttentionLogger
from mmattn.training.pictures.probes import Probes
from mmattn.training.processes.strategies import DDP, FSDP
from mmattn.training.step_seed import StepSeed

LIMIT = 60.0  # seconds


def learned(argument, batch_size, **options):
    """Train an epoch by plain gradients; return the weights."""
    make_data, make_task, make_trainer = argument
    data = make_data(batch_size=batch_size)
    data.read()
    data.splits.train.captions = lambda index: ("a square",)
    task = make_task(data)
    task.make_optimizer, task.make_scheduler = partial(torch.optim.SGD, lr=0.5), None
    trainer = make_trainer(limit_val_batches=0, **options)
    trainer.fit(task, datamodule=data)
    assert trainer.global_step == 24 // 8 or options == {"devices": 1}
    return {name: value.tolist() for name, value in task.state_dict().items()}


def on_two_ranks(rank, argument):
    two = {"devices": 2}
    ddp = learned(argument, 4, strategy=DDP(LIMIT), **two)
    halves = learned(argument, 2, strategy=DDP(LIMIT), accumulate_grad_batches=2, **two)
    parts = learned(argument, 4, strategy=FSDP(LIMIT), **two)
    return [ddp, halves, parts]


def close(found, expected):
    return all(
        torch.allclose(torch.tensor(found[name]), torch.tensor(value), atol=1e-5)
        for name, value in expected.items()
    )


def test_two_ranks_and_accumulation_step_as_one_batch_does(
    in_two_processes, make_data, make_task, make_trainer
):
    argument = (make_data, make_task, make_trainer)
    whole = learned(argument, 8)
    assert close(learned(argument, 4, accumulate_grad_batches=2), whole)
    first, second = in_two_processes(on_two_ranks, [argument] * 2, timeout=120)
    assert first == second
    for found in first:
        assert found.keys() == whole.keys()
        assert close(found, whole)
    assert not close(learned(argument, 4, devices=1), whole)  # six steps: it could be told


def test_activations_that_are_computed_again_change_no_bit(
    make_data, make_task, make_trainer, tmp_path
):
    """With dropout, and with maps recorded between the steps."""

    def trained(again):
        data = make_data()
        task, blocks = make_task(data, dropout=0.3), []
        task.model.vision.gradient_checkpointing = again
        task.model.text.gradient_checkpointing = again
        for block in (task.model.vision.blocks[0], task.model.text.blocks[0]):
            block.register_forward_pre_hook(lambda *_: blocks.append(torch.is_grad_enabled()))
        maps = AttentionLogger(str(tmp_path / str(again)), probes=Probes(size=1), every_n_steps=2)
        trainer = make_trainer(StepSeed(0), maps, limit_train_batches=3, limit_val_batches=0)
        trainer.fit(task, datamodule=data)
        assert sum(blocks) == 3 * (4 if again else 2)
        with np.load(next((tmp_path / str(again)).rglob("*.npz"))) as numbers:
            return task.state_dict(), numbers["weights"]

    (plain, maps), (again, same) = trained(False), trained(True)
    assert all(torch.equal(again[name], value) for name, value in plain.items())
    assert np.array_equal(maps, same)


@pytest.mark.parametrize(
    ("precision", "weights", "products"),
    [
        ("32-true", torch.float32, torch.float32),
        ("bf16-mixed", torch.float32, torch.bfloat16),
        ("bf16-true", torch.bfloat16, torch.bfloat16),
    ],
)
def test_precision_is_that_of_weights_and_of_products(
    make_data, make_task, make_trainer, precision, weights, products
):
    data, seen = make_data(), set()
    task = make_task(data)
    layer = task.model.text.blocks[0].mlp.up
    layer.register_forward_hook(lambda _, given, out: seen.add(out.dtype))
    trainer = make_trainer(precision=precision, limit_train_batches=2, limit_val_batches=0)
    trainer.fit(task, datamodule=data)
    assert {parameter.dtype for parameter in task.model.parameters()} == {weights}
    assert seen == {products}
