import math

import numpy as np
import pytest
import torch

from mmattn.batch import IGNORE
from mmattn.metrics.word_label import WordLabelScores

TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


def logits_of(predicted):
    """Logits [B, W, 5] whose largest are those of the classes [B, W]."""
    return torch.nn.functional.one_hot(torch.as_tensor(predicted).clamp(min=0), 5).float()


def scored(*batches, classes=TAGS):
    """Scores of batches of (predicted, labels), with keys 0, 1, 2 ..."""
    scores, first = WordLabelScores(classes), 0
    for predicted, labels in batches:
        labels = torch.as_tensor(labels)
        scores.update(torch.arange(first, first + len(labels)), logits_of(predicted), labels)
        first += len(labels)
    return scores.compute()


def test_the_numbers_are_those_of_scikit_learn_and_seqeval():
    """Made with scikit-learn 1.9.1 and seqeval 1.2.2."""
    rng = np.random.RandomState(7)
    labels = rng.randint(0, 5, (12, 9))
    predicted = np.where(rng.rand(12, 9) < 0.3, rng.randint(0, 5, (12, 9)), labels)
    expected = {
        "accuracy": 0.7962962962962963,
        "f1_macro": 0.783154475229947,
        "f1_micro": 0.7962962962962963,
        "entity_f1": 0.7210884353741497,
        "entity_precision": 0.7066666666666667,
        "entity_recall": 0.7361111111111112,
    }
    assert scored((predicted, labels)) == pytest.approx(expected)


def test_batches_of_different_widths_add_up_and_padding_does_not_count():
    first = ([[1, 2, 0]], [[1, 2, 0]])
    second = ([[3, 4, 4, 0, 1], [3, 1, 1, 1, 1]], [[3, 4, 0, 0, 1], [3] + [IGNORE] * 4])
    found = scored(first, second)
    assert found["accuracy"] == pytest.approx(8 / 9)
    assert found["entity_precision"] == found["entity_recall"] == pytest.approx(3 / 4)


def test_an_entity_ends_with_its_text():
    """Otherwise the two would be one in the second text's favour."""
    found = scored(([[0, 1], [2, 0]], [[0, 1], [1, 0]]))
    assert found["entity_f1"] == 1.0


def test_an_entity_ends_with_its_text_also_where_places_go_on():
    """The second text's first word has no label, so its place follows that of the first text."""
    found = scored(([[1, 0], [0, 0]], [[1, IGNORE], [IGNORE, 2]]))
    assert found["entity_precision"] == 1.0
    assert found["entity_recall"] == 0.5


def test_an_entity_ends_where_a_word_has_no_label():
    found = scored(([[1, 2, 2]], [[1, IGNORE, 2]]), ([[1, 1, 1]], [[0, 0, IGNORE]]))
    assert found["entity_recall"] == 1.0  # two entities of one word each
    assert found["entity_precision"] == pytest.approx(2 / 4)


def test_an_open_label_counts_as_wrong():
    found = scored(([[1, 2, 0, 2]], [[1, -1, -1, 2]]))
    assert found["accuracy"] == 0.5
    # predicted: words 0-1 and word 3; labels: word 0, words 1-2 of an unknown kind, word 3
    assert found["entity_precision"] == pytest.approx(1 / 2)
    assert found["entity_recall"] == pytest.approx(1 / 3)


def test_an_entity_of_an_unknown_kind_is_never_found():
    classes = ("O", "B-?", "I-?", "I-??", "B-")
    for predicted in range(5):
        found = scored(([[predicted]], [[-1]]), classes=classes)
        assert found["accuracy"] == found["entity_recall"] == 0.0


def test_other_classes_have_no_entities():
    found = scored(([[0, 1]], [[0, 2]]), classes=("NOUN", "VERB", "O", "X", "Y"))
    assert found.keys() == {"accuracy", "f1_macro", "f1_micro"}


def test_texts_without_any_entity_have_no_entity_scores():
    found = scored(([[0, 0]], [[0, 0]]))
    assert found["accuracy"] == 1.0
    assert math.isnan(found["entity_f1"])


def test_broken_padding_does_not_matter():
    scores = WordLabelScores(TAGS)
    logits = logits_of([[1, 0]])
    logits[0, 1] = float("nan")
    scores.update(torch.tensor([3]), logits, torch.tensor([[1, IGNORE]]))
    assert scores.compute()["accuracy"] == 1.0


def test_a_text_without_a_word_is_no_problem():
    found = scored(([[1]], [[1]]), (torch.zeros(2, 0).long(), torch.zeros(2, 0).long()))
    assert found["accuracy"] == 1.0


def test_a_target_that_is_no_class_is_refused():
    with pytest.raises(ValueError, match="a target is 5: give 0 to 4"):
        scored(([[0]], [[5]]))
