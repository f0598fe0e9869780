"""A run that goes on from a checkpoint of any moment learns, validates and logs the very same."""

import csv
from dataclasses import replace
from functools import partial

import pytest
import torch
from lightning.pytorch.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    LearningRateMonitor,
)
from lightning.pytorch.strategies import SingleDeviceStrategy

from mmattn.blocks import BlockOptions
from mmattn.classifier import Classifier
from mmattn.fusion import CrossFusion
from mmattn.joint import JointModel
from mmattn.patches import LinearPatches
from mmattn.tasks.classification import ClassificationTask
from mmattn.tasks.joint import JointTask
from mmattn.tasks.losses import LossOptions
from mmattn.text import TextTransformer
from mmattn.training.averaged_weights import AveragedWeights
from mmattn.training.checkpoints.resume_point import ResumePoint
from mmattn.training.freezing import Freeze
from mmattn.training.loggers.continued_logs import go_on_logging
from mmattn.training.loggers.metrics_file import MetricsFile
from mmattn.training.step_seed import StepSeed
from mmattn.vision import VisionTransformer

pytestmark = [
    pytest.mark.fault("F2"),
    pytest.mark.filterwarnings("ignore:Found .* in eval mode at the start of training"),
]


class SaveEverywhere(Checkpoint):
    """Writes <n>-<moment>-<batches>.ckpt at the end of each batch, validation and epoch."""

    def __init__(self, folder):
        self.folder, self.names = folder, []

    def save(self, trainer, moment):
        batches = trainer.fit_loop.epoch_loop.batch_progress.total.ready
        self.names.append(f"{len(self.names):02d}-{moment}-{batches}.ckpt")
        trainer.save_checkpoint(self.folder / self.names[-1], weights_only=False)

    def on_train_batch_end(self, trainer, *_):
        self.save(trainer, "batch")

    def on_validation_end(self, trainer, _):
        self.save(trainer, "validation")

    def on_train_epoch_end(self, trainer, _):
        self.save(trainer, "epoch")


class Outcome:
    """What a run leaves: its weights, the optimiser's state and the rows of metrics.csv."""

    def __init__(self, task, trainer, folder):
        self.weights = {name: value.clone() for name, value in task.state_dict().items()}
        self.optimizer = trainer.optimizers[0].state_dict() if trainer.optimizers else None
        with (folder / "metrics.csv").open(newline="") as file:
            self.rows = list(csv.DictReader(file))

    def differences(self, other):
        """Name what differs, bit for bit."""
        found = [
            name for name, x in self.weights.items() if not torch.equal(x, other.weights[name])
        ]
        if other.optimizer and self.optimizer:
            for i, state in self.optimizer["state"].items():
                theirs = other.optimizer["state"][i]
                found += [f"{i}.{key}" for key in state if not torch.equal(state[key], theirs[key])]
        if self.rows != other.rows:
            found.append(f"rows: {self.rows} and {other.rows}")
        return found


@pytest.fixture
def everywhere(make_trainer, tmp_path):
    """Fit a whole run, then go on from each of its checkpoints; return what differs, by name.

    `parts(workers)` makes the task and the data, and `extra` more callbacks, all anew for each run.
    """

    def fit(parts, extra, options, path=None, save=None, workers=0):
        task, data = parts()
        data.loader = replace(data.loader, num_workers=workers)
        logger = MetricsFile(str(tmp_path), name="", version="")
        if path is not None:
            go_on_logging([logger], torch.load(path, weights_only=True))
        trainer = make_trainer(
            *[ResumePoint(), StepSeed(0), LearningRateMonitor("step"), *extra()],
            *([save] if save else []),
            **{"max_epochs": 2, "logger": logger, "enable_checkpointing": bool(save), **options},
        )
        torch.manual_seed(1234 if path is None else 99)  # whatever else has drawn from it
        trainer.fit(task, datamodule=data, ckpt_path=path, weights_only=True)
        return Outcome(task, trainer, tmp_path)

    def run(parts, extra=lambda: [], wanted=lambda name: True, workers=0, **options):
        save = SaveEverywhere(tmp_path)
        whole = fit(parts, extra, options, save=save)
        found = {}
        for name in filter(wanted, save.names):
            # The file of the last run is still there, with more rows than the checkpoint knows.
            resumed = fit(parts, extra, options, path=tmp_path / name, workers=workers)
            found[name] = whole.differences(resumed)
        assert found, save.names
        return found

    return run


@pytest.fixture
def parts(make_data, make_task):
    """Make the data and a captioner with dropout."""

    def make():
        data = make_data()
        return make_task(data, dropout=0.3), data

    return make


def exact(found):
    return not any(found.values())


AVERAGED = {"decay": 0.9}


def test_from_the_edges_of_accumulation_validation_and_epoch(everywhere, parts):
    """Four batches a step, and the two that are left of an epoch; then its validation."""
    edges = ("batch-2", "batch-4", "batch-6", "validation-6")
    found = everywhere(
        parts,
        lambda: [AveragedWeights(**AVERAGED)],
        lambda name: name.endswith(tuple(f"{edge}.ckpt" for edge in edges)),
        accumulate_grad_batches=4,
    )
    assert len(found) == len(edges)
    assert exact(found), found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("extra", "options"),
    [
        (lambda: [AveragedWeights(**AVERAGED)], {"accumulate_grad_batches": 4}),
        (lambda: [Freeze(["vision"], until_epoch=1)], {"max_steps": 12, "max_epochs": -1}),
    ],
    ids=["accumulation and averages", "thawing and max_steps"],
)
def test_from_every_moment_of_two_epochs(everywhere, parts, extra, options):
    found = everywhere(parts, extra, **options)
    assert len(found) == 12 + 2 + 2
    assert exact(found), found


@pytest.mark.slow
@pytest.mark.fault("F3")
def test_with_validations_inside_epochs_in_half_precision_and_other_workers(everywhere, parts):
    found = everywhere(
        parts,
        wanted=lambda name: name.endswith(("batch-2.ckpt", "batch-3.ckpt", "validation-8.ckpt")),
        workers=2,
        accumulate_grad_batches=2,
        check_val_every_n_epoch=None,
        val_check_interval=4,
        precision="bf16-mixed",
    )
    assert len(found) == 3
    assert exact(found), found


@pytest.fixture
def mixed(make_label_data):
    """Make labelled pictures and a classifier that is trained on mixtures of them."""

    def make():
        data = make_label_data(text=False)
        torch.manual_seed(0)
        block = BlockOptions(heads=2, dropout=0.3)
        vision = VisionTransformer((16, 16), LinearPatches(4, 16), 1, block)
        task = ClassificationTask(
            Classifier(data.model_settings()["heads"], vision=vision),
            optimizer=partial(torch.optim.AdamW, lr=1e-2),
            scheduler=None,
            loss=LossOptions(label_smoothing=0.1),
            mixup=0.4,
            cutmix=1.0,
            **data.task_settings(),
        )
        return task, data

    return make


@pytest.fixture
def left_out(make_label_data, make_label_task):
    """Make questions about pictures and a classifier that does without one of them now and then."""

    def make():
        data = make_label_data()
        return make_label_task(data, may_miss={"image": 0.4, "text": 0.3}, dropout=0.3), data

    return make


@pytest.fixture
def joint(make_data):
    """Make captioned pictures and a joint model, whose wrong pairs are drawn in every step."""

    def make():
        data = make_data()
        torch.manual_seed(0)
        block, size = BlockOptions(heads=2, dropout=0.3), data.tokenizer.vocab_size
        model = JointModel(
            VisionTransformer((16, 16), LinearPatches(4, 16), 1, block),
            TextTransformer(size, 16, 1, block, max_length=16, context_dim=16),
            text_encoder=TextTransformer(size, 16, 1, block, max_length=16, causal=False),
            fusion=CrossFusion(16, 1, block),
            embed_dim=8,
        )
        options = {"max_length": 16, "test_names": data.test_names}
        adam = partial(torch.optim.AdamW, lr=1e-3)
        return JointTask(model, data.tokenizer, adam, None, **options), data

    return make


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mixed", "left_out", "joint"])
def test_what_other_tasks_draw_is_drawn_again(everywhere, request, kind):
    made = request.getfixturevalue(kind)
    found = everywhere(made, wanted=lambda name: name.endswith(("batch-2.ckpt", "batch-5.ckpt")))
    assert len(found) == 2
    assert exact(found), found


def test_where_the_strategy_restores_callbacks_late(everywhere, parts, monkeypatch):
    """As FSDP does, after `on_fit_start`; after the last step there is nothing to learn."""
    monkeypatch.setattr(SingleDeviceStrategy, "restore_checkpoint_after_setup", True)
    found = everywhere(
        parts,
        wanted=lambda name: name.endswith(("batch-2.ckpt", "batch-6.ckpt")),
        max_steps=6,
        max_epochs=-1,
    )
    assert len(found) == 2
    assert exact(found), found


def stopping():
    """Early stopping that ends a run at its first validation, as `conf` has it."""
    return EarlyStopping("val/loss", stopping_threshold=1e9, check_on_train_epoch_end=False)


@pytest.mark.parametrize(
    "options", [{}, pytest.param({"min_epochs": 2, "max_epochs": 3}, marks=pytest.mark.slow)]
)
def test_a_run_that_stopped_early_learns_nothing_more(everywhere, parts, options):
    found = everywhere(
        parts,
        lambda: [AveragedWeights(**AVERAGED), stopping()],
        lambda name: name.endswith(("validation-6.ckpt", "epoch-6.ckpt")),
        **options,
    )
    assert len(found) == 2
    assert exact(found), found


def test_without_early_stopping_a_run_that_stopped_early_trains_on(make_trainer, parts, tmp_path):
    task, data = parts()
    trainer = make_trainer(ResumePoint(), stopping(), max_epochs=2)
    trainer.fit(task, datamodule=data)
    assert trainer.global_step == 6
    trainer.save_checkpoint(tmp_path / "its.ckpt")
    task, data = parts()
    trainer = make_trainer(ResumePoint(), max_epochs=2)
    with pytest.warns(UserWarning, match="callbacks used to create the checkpoint"):
        trainer.fit(task, datamodule=data, ckpt_path=tmp_path / "its.ckpt", weights_only=True)
    assert trainer.global_step == 12


def test_the_last_validation_comes_before_the_model_leaves_its_device(
    make_trainer, parts, tmp_path, monkeypatch
):
    class Note(Callback):
        def on_validation_end(self, *_):
            noted.append("validation")

    save, noted = SaveEverywhere(tmp_path), []
    teardown = SingleDeviceStrategy.teardown
    monkeypatch.setattr(
        SingleDeviceStrategy, "teardown", lambda self: noted.append("teardown") or teardown(self)
    )
    options = {"max_steps": 6, "max_epochs": -1, "enable_checkpointing": True}
    task, data = parts()
    make_trainer(ResumePoint(), Note(), save, **options).fit(task, datamodule=data)
    assert noted == ["validation", "teardown"]
    (last,) = (tmp_path / name for name in save.names if name.endswith("batch-6.ckpt"))
    task, data = parts()
    trainer = make_trainer(ResumePoint(), Note(), max_steps=6, max_epochs=-1)
    trainer.fit(task, datamodule=data, ckpt_path=last, weights_only=True)
    assert noted == ["validation", "teardown"] * 2
    assert (trainer.global_step, trainer.current_epoch) == (6, 1)


def test_a_point_that_is_one_batch_off_is_found_out(everywhere, parts, monkeypatch):
    """The comparison of the tests above is one that can fail: without it nothing is exact."""
    monkeypatch.setattr(ResumePoint, "on_save_checkpoint", lambda *_: None)
    monkeypatch.setattr(ResumePoint, "load_state_dict", lambda *_: None)
    found = everywhere(
        parts,
        wanted=lambda name: name.endswith(("batch-2.ckpt", "batch-6.ckpt")),
        accumulate_grad_batches=4,
    )
    lost, left_out = found.values()
    assert "model.text.embedding.weight" in lost  # accumulated gradients
    assert [each[:5] for each in left_out] == ["rows:"]  # a row of figures, and a validation
