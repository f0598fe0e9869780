"""Decisions ready to be drawn: relevance is that of a fresh call, images those of the user."""

import numpy as np
import pytest
import torch

from mmattn.batch import IGNORE
from mmattn.maps.decision import decision_relevance
from mmattn.maps.decision_sheet import decision_sheet
from mmattn.training.pictures.decision_records import decision_records, example_batch, truth_of
from mmattn.training.pictures.mistakes import judged

HEADS = {"colour": "single", "marks": "multi", "answer": "soft"}


def fresh(task, data, dataset, key, head, kind, number):
    """The relevance of a class for one example by itself: on image, on words, and its share."""
    batch = example_batch(task, data, dataset, [key])
    found = decision_relevance(task.model, batch, head, torch.tensor([number]), kind=kind)
    words = [(w.text, x) for w, x in found.words(task.tokenizer)[0]]
    return found.image[0].numpy(), words, float(found.probability)


@pytest.mark.parametrize("head", HEADS)
def test_each_class_has_the_relevance_that_it_has_alone(make_label_data, make_label_task, head):
    data = make_label_data(tuple(HEADS))
    task, dataset = make_label_task(data), data.splits.val
    keys = [example.key for example in dataset.examples][::-2]
    records = decision_records(task, data, dataset, keys, head, at_once=3)
    assert [record.key for record in records] == keys
    names = task.classes[head].names
    assert any(len(record.classes) == 2 for record in records)
    for record in records:
        for place, one in enumerate(record.classes):
            number = names.index(one.label)
            image, words, share = fresh(task, data, dataset, record.key, head, HEADS[head], number)
            np.testing.assert_allclose(record.image_relevance[place], image, rtol=1e-3, atol=1e-6)
            assert [word.text for word in record.words] == [text for text, _ in words]
            worth = record.word_relevance[place]
            np.testing.assert_allclose(worth, [x for _, x in words], rtol=1e-3, atol=1e-6)
            assert one.probability == pytest.approx(share, rel=1e-4)
        predicted = task.model(example_batch(task, data, dataset, [record.key]))[head].argmax()
        assert record.classes[0].label == names[int(predicted)]


def test_probabilities_are_at_the_temperature_that_is_fitted(make_label_data, make_label_task):
    data = make_label_data()
    task, dataset = make_label_task(data), data.splits.val
    keys = [example.key for example in dataset.examples]
    task.temperature = {"colour": 2.0}
    records = decision_records(task, data, dataset, keys, "colour")
    scores = task.model(example_batch(task, data, dataset, keys))["colour"]
    wanted = (scores / 2).softmax(-1).amax(-1)
    found = [record.classes[0].probability for record in records]
    assert found == pytest.approx(wanted.tolist(), rel=1e-4)


def test_the_right_class_stands_beside_a_mistake_alone(make_label_data, make_label_task):
    data = make_label_data()
    task, dataset = make_label_task(data), data.splits.val
    records = decision_records(task, data, dataset, [e.key for e in dataset.examples], "colour")
    assert {record.wrong for record in records} == {True, False}
    for record, example in zip(records, dataset.examples, strict=True):
        assert record.truth == example.labels["colour"]
        assert record.wrong == (record.classes[0].label != record.truth)
        assert [one.label for one in record.classes[1:]] == [record.truth] * record.wrong
        assert [one.role for one in record.classes] == ["predicted", "right"][: 1 + record.wrong]
        image = dataset.store.image(example.images[0]).permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(record.images[0].image, image)
        assert record.images[0].name == example.images[0]
        assert record.text == example.text
        decision_sheet(record)


@pytest.mark.parametrize(
    ("options", "images"),
    [
        ({"text": False}, 1),
        ({"images": 0}, 0),
        ({"images": 2}, 2),
        ({"lacking": ("image", "text")}, 1),
        ({"withhold": "image"}, 1),
    ],
)
def test_one_modality_several_images_and_missing_ones_are_explained_and_drawn(
    make_label_data, make_label_task, options, images
):
    data = make_label_data(**options)
    miss = {"image": 0.1, "text": 0.1} if {"lacking", "withhold"} & options.keys() else None
    task, dataset = make_label_task(data, images=max(images, 1), may_miss=miss), data.splits.val
    records = decision_records(task, data, dataset, [e.key for e in dataset.examples], "colour")
    for record, example in zip(records, dataset.examples, strict=True):
        gone = {what for what in data.missing(example) if what in (miss or ())}
        assert set(record.missing) == gone
        assert len(record.images) == (0 if "image" in gone else images)
        assert (record.text is None) == ("text" in gone or task.model.text is None)
        assert record.image_relevance.shape[:2] == (len(record.classes), len(record.images))
        assert (record.text_relevance.size == 0) == (record.text is None)
        assert decision_sheet(record).shape[2] == 3


def test_what_is_right_and_what_a_mistake_by_kind():
    scores = torch.tensor([[2.0, 1.0, 0.0]] * 4)
    right, wrong = judged("single", scores, torch.tensor([0, 2, -1, IGNORE]))
    assert (right.tolist(), wrong.tolist()) == ([0, 2, -1, -1], [False, True, True, False])
    none = [float(IGNORE)] * 3
    targets = torch.tensor([[1.0, 1, 0], [0, 1, 1], [0, 0, 0], none])
    right, wrong = judged("multi", scores, targets)
    assert (right.tolist(), wrong.tolist()) == ([0, 1, -1, -1], [False, True, True, False])
    assert judged("multi", scores - 3, targets)[1].tolist() == [False] * 4  # predicts no class
    targets = torch.tensor([[0.3, 1.0, 0.0], [0.0, 0.3, 0.6], [0, 0, 0], none])
    right, wrong = judged("soft", scores - 3, targets)
    assert (right.tolist(), wrong.tolist()) == ([1, 2, -1, -1], [False, True, True, False])


def test_labels_in_words():
    assert truth_of(None) is None
    assert truth_of("a") == "a"
    assert truth_of(("b", "a")) == "b, a"
    assert truth_of(()) == "none of the classes"
    assert truth_of({"no": 0.3, "yes": 1.0, "maybe": 0.0}) == "yes (1), no (0.3)"
    assert truth_of(tuple("abcdefg")) == "a, b, c, d, e and 2 more"
