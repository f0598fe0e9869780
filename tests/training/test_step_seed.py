"""A run that is stopped anywhere and resumed ends with the very same bits."""

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from mmattn.tasks.methods.cross_entropy import CrossEntropy
from mmattn.tasks.methods.drop_worst import DropWorst
from mmattn.tasks.methods.parallel_prediction import ParallelPrediction
from mmattn.tasks.methods.r_drop import RDrop
from mmattn.tasks.methods.scheduled_sampling import ScheduledSampling
from mmattn.tasks.methods.word_dropout import WordDropout
from mmattn.training.averaged_weights import AveragedWeights
from mmattn.training.step_seed import StepSeed

pytestmark = [
    pytest.mark.fault("F2"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed"),  # each run has its own
]
EPOCHS = 3  # of six batches each


class Stop(L.Callback):
    """Ends the run without any clean-up of its own, like a signal would."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.step:
            raise InterruptedError


@pytest.fixture
def fit(make_data, make_task, make_trainer, tmp_path):
    """Fit a model with dropout on augmented pictures; return its state."""

    def run(*extra, ckpt_path=None, folder="run", method=None, **options):
        data = make_data()
        task = make_task(data, dropout=0.3, method=method)
        keep = ModelCheckpoint(
            tmp_path / folder, "{step}", save_top_k=-1, every_n_train_steps=1, save_last=False
        )
        trainer = make_trainer(
            StepSeed(0), *extra, keep, max_epochs=EPOCHS, enable_checkpointing=True, **options
        )
        torch.manual_seed(1234)  # whatever else has drawn from the global generator
        trainer.fit(task, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
        return task.state_dict()

    return run


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("step", [1, 4, 6, 7, 12, 17])
def test_resuming_after_any_step_gives_the_same_bits(fit, tmp_path, step):
    whole = fit(folder="whole")
    with pytest.raises(InterruptedError):
        fit(Stop(step + 1), folder="cut")
    torch.manual_seed(99)
    resumed = fit(ckpt_path=tmp_path / "cut" / f"step={step}.ckpt", folder="resumed")
    assert same(whole, resumed)


def test_a_resumed_average_is_the_same_too(fit, tmp_path):
    def average():
        return AveragedWeights(decay=0.9)

    whole = fit(average(), folder="whole")
    resumed = fit(average(), ckpt_path=tmp_path / "whole" / "step=9.ckpt", folder="resumed")
    assert same(whole, resumed)
    assert not same(whole, fit(folder="plain"))


def test_methods_that_draw_are_resumed_exactly_too(fit, tmp_path):
    method = CrossEntropy(
        drop_worst=DropWorst(0.3, start=0.4),
        word_dropout=WordDropout(0.2),
        scheduled_sampling=ScheduledSampling(0.5),
        parallel_prediction=ParallelPrediction(0.5),
        r_drop=RDrop(1.0),
    )
    whole = fit(method=method, folder="whole")
    resumed = fit(method=method, ckpt_path=tmp_path / "whole" / "step=9.ckpt", folder="resumed")
    assert same(whole, resumed)
    assert not same(whole, fit(folder="plain"))


def test_it_is_the_step_seed_that_makes_it_so(fit, tmp_path, monkeypatch):
    monkeypatch.setattr(StepSeed, "on_train_batch_start", lambda *_: None)
    whole = fit(folder="whole")
    resumed = fit(ckpt_path=tmp_path / "whole" / "step=4.ckpt", folder="resumed")
    assert not same(whole, resumed)


def test_every_step_epoch_and_rank_draws_something_else(make_trainer):
    drawn = set()
    for epoch in range(2):
        for batch in range(3):
            for rank in range(2):
                trainer = make_trainer()
                trainer.fit_loop.epoch_progress.current.completed = epoch
                trainer.strategy.global_rank = rank
                StepSeed(0).on_train_batch_start(trainer, L.LightningModule(), None, batch)
                drawn.add(torch.rand(1).item())
    assert len(drawn) == 2 * 3 * 2
