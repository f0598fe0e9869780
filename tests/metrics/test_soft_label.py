import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmattn.batch import IGNORE
from mmattn.metrics.soft_label import SoftLabelScores


def scored(logits, targets):
    logits, targets = torch.as_tensor(logits).float(), torch.as_tensor(targets).float()
    scores = SoftLabelScores(logits.shape[1])
    scores.update(torch.arange(len(logits)), logits, targets)
    return scores.compute()


def slow_scores(logits, targets):
    """Plain Python, question by question."""
    order = [sorted(range(len(row)), key=lambda c: (-row[c], c)) for row in logits]
    chosen = [scores[o[0]] for scores, o in zip(targets, order, strict=True)]
    first = [max(scores[c] for c in o[:5]) for scores, o in zip(targets, order, strict=True)]
    best = [0 < score == max(scores) for score, scores in zip(chosen, targets, strict=True)]
    losses = [
        math.log1p(math.exp(x)) - y * x
        for row, scores in zip(logits, targets, strict=True)
        for x, y in zip(row, scores, strict=True)
    ]
    n = len(logits)
    return {
        "vqa_accuracy": sum(chosen) / n,
        "vqa_accuracy_top5": sum(first) / n,
        "accuracy": sum(best) / n,
        "nll": sum(losses) / n,
    }


logits = st.lists(st.integers(-3, 3), min_size=7, max_size=7)
targets = st.lists(st.sampled_from([0.0, 0.0, 0.25, 0.5, 1.0]), min_size=7, max_size=7)


@given(st.lists(st.tuples(logits, targets), min_size=1, max_size=12))
def test_the_numbers_are_those_of_plain_python(questions):
    logits, targets = (list(each) for each in zip(*questions, strict=True))
    assert scored(logits, targets) == pytest.approx(slow_scores(logits, targets), rel=1e-5)


def test_any_of_the_best_answers_is_the_best():
    found = scored([[3.0, 0.0, 1.0], [0.0, 3.0, 1.0]], [[0.3, 0.3, 0.1], [0.6, 0.3, 0.0]])
    assert found["vqa_accuracy"] == pytest.approx(0.3)
    assert found["accuracy"] == 0.5
    assert "vqa_accuracy_top5" not in found


def test_a_question_that_no_class_answers_scores_nothing():
    found = scored([[3.0, 0.0], [3.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]])
    assert found["vqa_accuracy"] == found["accuracy"] == 0.5


def test_questions_without_a_label_do_not_count():
    one = [[3.0, 0.0, -1.0]], [[0.6, 0.3, 0.0]]
    broken, none = [float("nan"), 0.0, 0.0], [float(IGNORE)] * 3
    assert scored([*one[0], broken], [*one[1], none]) == scored(*one)


def test_what_is_kept_does_not_grow_with_the_answers():
    scores = SoftLabelScores(3129)
    scores.update(torch.arange(4), torch.randn(4, 3129), torch.rand(4, 3129))
    kept = [column for name in scores._empty for column in getattr(scores, name)]
    assert sum(column.nbytes for column in kept) == 4 * 42


@pytest.mark.parametrize("row", [[1.2, 0.0], [-0.1, 0.0], [float(IGNORE), 0.0]])
def test_a_score_outside_0_to_1_is_refused(row):
    with pytest.raises(ValueError, match="between 0 and 1"):
        scored([[1.0, 1.0]], [row])
