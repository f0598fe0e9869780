"""What two ranks measure is what one does: no example counts twice, however few there are."""

from dataclasses import replace

import pytest

from mmattn.training.pictures.grounding import GroundingMeter


def measured(rank, argument):
    """Validate and test as one of two ranks, or alone; return what was logged."""
    make_data, make_task, make_trainer, options = argument
    data = make_data()
    data.read()
    data.loader = replace(data.loader, eval_batch_size=3)
    # Seven, nine and one: the last batch of two ranks has one image for both, or the only one does.
    data.splits.val.length, data.splits.test["b"].length = 7, 1
    trainer, logged = make_trainer(GroundingMeter(), **options), {}
    for what in ("validate", "test"):
        getattr(trainer, what)(make_task(data), datamodule=data, verbose=False)
        logged |= {name: float(value) for name, value in trainer.callback_metrics.items()}
    return logged


def test_captions_losses_and_maps_of_two_ranks_are_those_of_one(
    in_two_processes, make_data, make_task, make_trainer
):
    parts = (make_data, make_task, make_trainer)
    two = (*parts, {"strategy": "ddp", "devices": 2})
    first, second = in_two_processes(measured, [two, two], timeout=120)
    assert first == second
    alone = measured(0, (*parts, {}))
    assert first.keys() == alone.keys()
    names = ("val/loss", "test/b/loss", "val/token_accuracy", "val/cider", "test/a/bleu_1")
    assert {*names, "attention/words", "test/a/attention/pointing"} <= alone.keys()
    for name, value in alone.items():
        assert first[name] == pytest.approx(value, abs=1e-6, rel=1e-5), name
