"""A run's temperatures: those of the best weights, on its validation set, each example once."""

from functools import partial

import pytest
import torch
from torch import nn

from mmattn.batch import IGNORE, LabelBatch
from mmattn.classifier import Classifier
from mmattn.data.labelled.classes import Classes, LabelSummary
from mmattn.metrics.calibration import confidences, expected_calibration_error
from mmattn.metrics.temperature import fit_temperature
from mmattn.tasks.classification import ClassificationTask
from mmattn.tasks.losses import LossOptions
from mmattn.training.temperatures import error_figure, fit_temperatures, temperature_figure

THREE = Classes("single", ("a", "b", "c"), open=True)


class Scores(Classifier):
    """Gives each example scores of its own, whatever it is asked."""

    def __init__(self, logits):
        nn.Module.__init__(self)
        self.vision = self.text = self.fusion = None
        self.word_heads, self.may_miss = (), {}
        self.scale = nn.Parameter(torch.ones(()))
        self.logits, self.dtypes, self.training_seen = logits, set(), set()

    def forward(self, batch):
        self.training_seen.add(self.training)
        self.dtypes.add(batch.images.dtype)
        rows = torch.tensor([int(key) for key in batch.keys])
        return {head: of[rows] * self.scale for head, of in self.logits.items()}


def make_task(logits, classes=None):
    classes = classes or dict.fromkeys(logits, THREE)
    return ClassificationTask(
        Scores(logits),
        None,
        partial(torch.optim.SGD, lr=0.1),
        None,
        labels=LabelSummary(
            classes,
            {head: [1] * len(each.names) for head, each in classes.items()},
            dict.fromkeys(classes, 3),
        ),
        lacking={},
        loss=LossOptions(),
    )


def batches(targets, size=7, repeated=()):
    count = len(next(iter(targets.values())))
    order = [*range(count), *repeated]
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        yield LabelBatch(
            keys=tuple(map(str, rows)),
            images=torch.zeros(1, 3, 2, 2),
            image_rows=torch.zeros(len(rows), 1, dtype=torch.long),
            image_valid=None,
            tokens=torch.zeros(len(rows), 1, dtype=torch.long),
            valid=torch.ones(len(rows), 1, dtype=torch.bool),
            targets={head: of[rows] for head, of in targets.items()},
        )


@pytest.fixture
def sure():
    """Scores of a model that is far too sure, and its labels."""
    generator = torch.Generator().manual_seed(0)
    logits = 6 * torch.randn(400, 3, generator=generator)
    drawn = (logits / 4).softmax(-1)
    targets = torch.multinomial(drawn, 1, generator=generator)[:, 0]
    targets[5], targets[6] = IGNORE, -1
    return logits, targets


def test_the_temperature_is_that_of_all_labelled_examples_each_once(sure):
    logits, targets = sure
    task = make_task({"answer": logits}).train()
    found = fit_temperatures(task, batches({"answer": targets}, repeated=(0, 0, 1)), "cpu")
    temperature, error = found["answer"]
    assert temperature == pytest.approx(fit_temperature(logits, targets), rel=1e-6)
    assert 2 < temperature < 8
    wanted = expected_calibration_error(*confidences(logits / temperature, targets))
    assert error == pytest.approx(wanted, abs=1e-6)
    assert error < expected_calibration_error(*confidences(logits, targets)) / 2
    assert task.model.training  # as it was
    assert task.model.training_seen == {False}


def test_a_head_that_is_always_right_keeps_its_scores(sure):
    logits, _ = sure
    targets = {"answer": logits.argmax(-1)}
    assert fit_temperatures(make_task({"answer": logits}), batches(targets), "cpu")[
        "answer"
    ].temperature == (1.0)


def test_a_head_of_which_no_label_is_a_class_keeps_its_scores(sure):
    logits, targets = sure
    found = fit_temperatures(
        make_task({"answer": logits}), batches({"answer": torch.full_like(targets, -1)}), "cpu"
    )
    assert found["answer"].temperature == 1.0


def test_what_has_no_label_or_no_numbers_is_left_out_with_a_warning(sure, caplog):
    logits, targets = sure
    scores = {"answer": logits, "empty": logits, "broken": logits * float("nan")}
    labels = {"answer": targets, "empty": torch.full_like(targets, IGNORE), "broken": targets}
    assert fit_temperatures(make_task(scores), batches(labels), "cpu").keys() == {"answer"}
    assert [record.args[0] for record in caplog.records] == ["empty", "broken"]


def test_only_heads_of_one_class_have_a_temperature(sure):
    logits, targets = sure
    classes = {"answer": THREE, "many": Classes("multi", ("a", "b", "c"))}
    labels = {"answer": targets, "many": torch.ones(400, 3)}
    task = make_task({"answer": logits, "many": logits}, classes)
    assert fit_temperatures(task, batches(labels), "cpu").keys() == {"answer"}


def test_half_precision_is_fed_with_half_precision(sure):
    logits, targets = sure
    task = make_task({"answer": logits.bfloat16()})
    task.model.bfloat16()
    found = fit_temperatures(task, batches({"answer": targets}), "cpu")["answer"]
    assert task.model.dtypes == {torch.bfloat16}
    assert found.temperature == pytest.approx(fit_temperature(logits, targets), rel=0.05)


def test_figures_are_named_as_metrics_are():
    assert temperature_figure("answer", ["answer"]) == "model/temperature"
    assert error_figure("answer", ["answer"]) == "val/ece_calibrated"
    assert temperature_figure("case", ["case", "script"]) == "model/case/temperature"
    assert error_figure("case", ["case", "script"]) == "val/case/ece_calibrated"
