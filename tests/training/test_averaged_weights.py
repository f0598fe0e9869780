"""Averaged weights are the average, and what does not change stays to the bit."""

import pytest
import torch

from mmattn.errors import ConfigError
from mmattn.training.averaged_weights import AveragedWeights
from mmattn.training.freezing import Freeze

pytestmark = pytest.mark.filterwarnings("ignore:Found .* in eval mode at the start of training")


@pytest.fixture
def data(make_data):
    return make_data()


@pytest.fixture
def averaged(data, make_task, make_trainer):
    """Train with averages; returns the weights of the model before, and those it has after."""

    def run(*callbacks, steps):
        task = make_task(data)
        before = {name: tensor.clone() for name, tensor in task.model.state_dict().items()}
        ema = AveragedWeights(decay=0.9)
        trainer = make_trainer(*callbacks, ema, max_epochs=-1, max_steps=steps)
        trainer.fit(task, datamodule=data)
        return before, task.model.state_dict()

    return run


def test_what_is_frozen_stays_to_the_bit(averaged):
    """With a decay and numbers that round: 0.9 · x + 0.1 · x is not x for many of them."""
    before, after = averaged(Freeze(["vision"]), steps=30)
    moved = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert moved
    assert {name.split(".")[0] for name in moved} == {"text"}
    vision = torch.cat([each.flatten() for name, each in before.items() if name[:6] == "vision"])
    assert not torch.equal(0.9 * vision + (1 - 0.9) * vision, vision)


def test_the_average_is_the_plain_sum(data, make_task, make_trainer):
    decay, seen = 0.8, []

    class Sees(AveragedWeights):
        def on_train_batch_end(self, trainer, pl_module, *rest):
            seen.append(pl_module.model.text.embedding.weight.detach().clone())
            super().on_train_batch_end(trainer, pl_module, *rest)

    task = make_task(data)
    make_trainer(Sees(decay=decay), max_epochs=2, limit_val_batches=0).fit(task, datamodule=data)
    expected, *others = seen
    for weights in others:
        expected = decay * expected + (1 - decay) * weights
    torch.testing.assert_close(task.model.text.embedding.weight.data, expected)


@pytest.mark.parametrize("decay", [-0.1, 1.5, float("nan")])
def test_a_decay_out_of_its_range_is_refused(decay):
    with pytest.raises(ConfigError, match=r"callbacks\.ema\.decay is .*give 0 to 1"):
        AveragedWeights(decay=decay)
