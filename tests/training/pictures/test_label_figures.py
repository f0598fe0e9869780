"""The figures of a head: their numbers are those of plain counting, and redraw the picture."""

import csv

import numpy as np
import pytest
import torch

from mmattn.figures.confusion import confusion_picture
from mmattn.metrics.calibration import expected_calibration_error
from mmattn.metrics.soft_label import SoftLabelScores
from mmattn.training.pictures import label_figures
from mmattn.training.pictures.label_figures import (
    OTHER,
    answers,
    confusion_figure,
    figures,
    reliability_figure,
    risk_figure,
)

NAMES = ["a", 'b "quoted", with a comma', "c"]


def single(examples=200, seed=0):
    rng = torch.Generator().manual_seed(seed)
    targets = torch.randint(3, (examples,), generator=rng)
    logits = torch.randn(examples, 3, generator=rng) + 1.5 * torch.eye(3)[targets]
    return {"logits": logits, "targets": targets}


def table(figure):
    header, *rows = csv.reader(figure.csv().decode().splitlines())
    return [dict(zip(header, row, strict=True)) for row in rows]


def test_the_confusion_matrix_can_be_drawn_from_its_table():
    rows = single()
    predicted = rows["logits"].argmax(-1)
    figure = confusion_figure(predicted, rows["targets"], NAMES)
    matrix = np.zeros((3, 3), int)
    for row in table(figure):
        matrix[NAMES.index(row["class"]), NAMES.index(row["predicted"])] = int(row["examples"])
    assert matrix.sum() == 200
    for own, said in zip(rows["targets"].tolist(), predicted.tolist(), strict=True):
        matrix[own, said] -= 1
    assert not matrix.any()
    np.add.at(matrix, (rows["targets"].numpy(), predicted.numpy()), 1)
    np.testing.assert_array_equal(figure.picture, confusion_picture(matrix, NAMES))


def test_labels_outside_the_classes_are_one_more_and_count_as_mistakes():
    figure = confusion_figure(torch.tensor([0, 1, 1]), torch.tensor([0, -1, 1]), ["a", "b"])
    assert [tuple(row.values()) for row in table(figure)] == [
        ("a", "a", "1"),
        ("b", "b", "1"),
        (OTHER, "b", "1"),
    ]
    assert figure.caption.startswith("2 of 3 right")


def test_of_very_many_classes_there_is_a_table_and_no_picture(monkeypatch):
    monkeypatch.setattr(label_figures, "MOST_CLASSES", 2)
    figure = confusion_figure(torch.tensor([0, 2]), torch.tensor([0, 1]), NAMES)
    assert figure.picture is None
    assert len(table(figure)) == 2


def test_the_bins_give_the_calibration_error():
    answered = answers("single", single(), temperature=2.0)
    rows = table(reliability_figure(answered))
    for temperature, confidence in ((1.0, answered.confidence), (2.0, answered.calibrated)):
        bins = [row for row in rows if float(row["temperature"]) == temperature]
        gaps = [
            int(r["examples"]) * abs(float(r["accuracy"]) - float(r["confidence"])) for r in bins
        ]
        error = expected_calibration_error(confidence, answered.correct)
        assert sum(gaps) / 200 == pytest.approx(error)
    assert figures(answered)["ece_calibrated"] == pytest.approx(error)


def test_the_points_give_the_risk_at_every_coverage():
    answered = answers("single", single())
    order = answered.confidence.argsort(descending=True)
    wrong = (~answered.correct[order]).double()
    risks = [float(wrong[:n].mean()) for n in range(1, 201)]
    rows = table(risk_figure(answered, "colour"))
    assert [float(row["risk"]) for row in rows] == pytest.approx(risks)
    assert [float(row["coverage"]) for row in rows] == pytest.approx(
        [n / 200 for n in range(1, 201)]
    )
    found = figures(answered)
    assert found["aurc"] == pytest.approx(np.mean(risks))
    assert found["risk_at_coverage_80"] == pytest.approx(risks[159])
    assert "ece_calibrated" not in found


def test_a_scored_answer_is_as_right_as_its_score():
    logits = torch.tensor([[2.0, -1.0, 0.0], [0.0, -3.0, -1.0]])
    metric = SoftLabelScores(3)
    metric.update(torch.arange(2), logits, torch.tensor([[0.3, 1.0, 0.0], [1.0, 0.0, 0.0]]))
    answered = answers("soft", metric.examples())
    assert answered.confidence.tolist() == pytest.approx([float(logits[0, 0].sigmoid()), 0.5])
    assert answered.correct.tolist() == pytest.approx([0.3, 1.0])
    assert figures(answered)["aurc"] == pytest.approx((0.7 + 0.35) / 2)


@pytest.mark.parametrize("kind", ["multi", "words"])
def test_heads_of_many_answers_have_none_to_be_sure_of(kind):
    assert answers(kind, {}) is None
