import logging

import pytest
import torch

from mmattn.errors import ConfigError
from mmattn.training.caption_variety import CaptionVariety, in_words, variety


def warnings(caplog):
    """What this library, and not Lightning, said."""
    return [each.getMessage() for each in caplog.records if each.name.startswith("mmattn")]


def captions(*predictions, references=30):
    """The captions of images 0, 1, …, whose references are all different up to a number."""
    return [
        (str(i), (f"reference {i % references}", "another"), said)
        for i, said in enumerate(predictions)
    ]


def test_what_is_counted():
    found = variety(captions("a dog", "a cat", "a dog", "the dog runs", references=3))
    assert found == (4, 3, 3, 5, ("a dog", 2))
    assert variety(captions("b", "a")).commonest == ("a", 1)
    assert "4 validation images got only 3 different captions of 5 words" in in_words(found)


@pytest.mark.parametrize(
    ("predictions", "references", "poor"),
    [
        (["same"] * 30, 30, True),
        (["same"] * 19, 30, False),  # too few to say
        (["same"] * 30, 1, False),  # and so they should
        (["one", "two"] * 15, 30, False),
        (["one", "two"] * 50, 60, True),
        ([str(i) for i in range(40)], 40, False),
    ],
)
def test_what_is_warned_of(predictions, references, poor):
    assert CaptionVariety().is_poor(variety(captions(*predictions, references=references))) is poor


def test_a_validation_logs_it_and_warns(make_data, make_task, make_trainer, caplog):
    data = make_data()
    task = make_task(data)
    with torch.no_grad():
        task.model.text.embedding.weight.zero_()  # the same logits everywhere
    trainer = make_trainer(CaptionVariety(images=5))
    with caplog.at_level(logging.WARNING, "mmattn"):
        trainer.validate(task, datamodule=data, verbose=False)
    assert float(trainer.callback_metrics["val/distinct_captions"]) == pytest.approx(1 / 12)
    (said,) = warnings(caplog)
    assert said.startswith("All 12 validation images got the same caption, ''. It may be too early")
    assert "lower optimizer.lr" in said


def test_varied_captions_are_not_warned_of(make_data, make_task, make_trainer, caplog):
    data = make_data()
    task = make_task(data)
    trainer = make_trainer(CaptionVariety(images=5), max_epochs=25, check_val_every_n_epoch=25)
    with caplog.at_level(logging.WARNING, "mmattn"):
        trainer.fit(task, datamodule=data)
    assert float(trainer.callback_metrics["val/distinct_captions"]) > 0.2
    assert float(trainer.callback_metrics["val/distinct_words"]) > 3
    assert not warnings(caplog)


def test_a_share_that_is_none_is_refused():
    with pytest.raises(ConfigError, match=r"callbacks\.variety\.least=1\.5 is a share"):
        CaptionVariety(least=1.5)
