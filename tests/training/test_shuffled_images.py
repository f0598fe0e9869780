import logging

import pytest
import torch
from torch.nn import functional as F

from mmattn.errors import ConfigError
from mmattn.training.shuffled_images import ShuffledImages


def warnings(caplog):
    """What this library, and not Lightning, said."""
    return [each.getMessage() for each in caplog.records if each.name.startswith("mmattn")]


def plain_shuffled_loss(task, data):
    """The mean token loss of the validation set's batches of 5, 5 and 2, with others' pictures."""
    losses = []
    for rows in (range(5), range(5, 10), range(10, 12)):
        batch = data.evaluation_batch(data.splits.val, rows)
        shift = len(rows) // 2
        images = torch.stack([batch.images[i - shift] for i in range(len(rows))])
        logits = task.model(images, batch.tokens)[batch.valid]
        losses += F.cross_entropy(logits, batch.labels[batch.valid], reduction="none").tolist()
    return sum(losses) / len(losses)


def test_a_captioner_that_looks_is_much_worse_with_other_images(
    make_data, make_task, make_trainer, caplog
):
    data = make_data()
    task = make_task(data)
    callback = ShuffledImages()
    trainer = make_trainer(callback, max_epochs=25, check_val_every_n_epoch=25)
    with caplog.at_level(logging.WARNING, "mmattn"):
        trainer.fit(task, datamodule=data)
    found = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert found["val/shuffled_loss"] > 2 * found["val/loss"]
    assert not warnings(caplog)
    with torch.no_grad():
        expected = plain_shuffled_loss(task.eval(), data)
    assert found["val/shuffled_loss"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_one_that_does_not_look_is_warned_of(make_data, make_task, make_trainer, caplog, precision):
    data = make_data()
    task = make_task(data)
    with torch.no_grad():
        for block in task.model.text.blocks:
            block.cross_attention.to_out.weight.zero_()
    trainer = make_trainer(ShuffledImages(), precision=precision)
    with caplog.at_level(logging.WARNING, "mmattn"):
        trainer.validate(task, datamodule=data, verbose=False)
    found = trainer.callback_metrics
    assert float(found["val/shuffled_loss"]) == pytest.approx(float(found["val/loss"]), rel=1e-5)
    (said,) = warnings(caplog)
    assert "does not look at its images" in said


def test_an_image_alone_in_its_batch_does_not_count(make_data, make_task, make_trainer):
    data = make_data()
    data.loader = type(data.loader)(batch_size=4, eval_batch_size=11)
    trainer = make_trainer(ShuffledImages())
    trainer.validate(make_task(data), datamodule=data, verbose=False)
    assert float(trainer.callback_metrics["val/shuffled_loss"]) > 0
    data.loader = type(data.loader)(batch_size=4, eval_batch_size=1)
    trainer = make_trainer(ShuffledImages())
    trainer.validate(make_task(data), datamodule=data, verbose=False)
    assert "val/shuffled_loss" not in trainer.callback_metrics  # nothing was counted


def test_a_negative_margin_is_refused():
    with pytest.raises(ConfigError, match=r"shuffled_images\.margin=-0\.1 must not be negative"):
        ShuffledImages(-0.1)
