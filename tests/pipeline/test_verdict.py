"""Answers are given where they are probable enough, and what is kept back is still in `top`."""

import pytest

from mmattn.data.labelled.classes import Classes
from mmattn.pipeline.classifier_pipeline import ClassifierPipeline

TEXT = "is it red?"
SEVERAL = {
    "answer": Classes("single", ("no", "perhaps", "yes")),
    "traits": Classes("multi", ("old", "small")),
}


def test_a_label_that_is_not_probable_enough_is_kept_back(make_classifier, photos):
    pipeline = ClassifierPipeline(make_classifier(classes=SEVERAL))
    (plain,) = pipeline.classify(photos[0], TEXT)
    sure = plain.probability
    (told,) = pipeline.classify(photos[0], TEXT, at_least=sure)
    assert (told.label, told.abstained) == (plain.label, False)
    (kept,) = pipeline.classify(photos[0], TEXT, at_least=min(1.0, sure + 1e-6))
    assert (kept.label, kept.abstained, kept["answer"].labels) == (None, True, ())
    assert (kept.top, kept.probability) == (plain.top, sure)
    line = kept.to_dict()["heads"]["answer"]
    assert (line["label"], line["abstained"]) == (None, True)
    assert line["top"] == plain.to_dict()["heads"]["answer"]["top"]
    assert "abstained" not in plain.to_dict()["heads"]["answer"]
    assert repr(kept).startswith("Classification('image-0', text='is it red?', answer=None")


def test_of_independent_classes_those_are_told_that_are_probable_enough(make_classifier, photos):
    pipeline = ClassifierPipeline(make_classifier(classes=SEVERAL))
    found = pipeline.classify(photos, TEXT)
    best = max(found, key=lambda one: one["traits"].probability)
    sure = best["traits"].probability
    assert sure > 0.5
    (again,) = pipeline.classify(photos[found.index(best)], TEXT, at_least=sure - 1e-4)
    assert again["traits"].labels == (best["traits"].label,)
    (kept,) = pipeline.classify(photos[found.index(best)], TEXT, at_least=1.0)
    assert (kept["traits"].label, kept["traits"].labels) == (None, ())
    assert kept["traits"].to_dict()["labels"] == []


def test_words_are_kept_back_one_by_one(make_classifier):
    classes = {"entity": Classes("words", ("O", "person", "place"))}
    pipeline = ClassifierPipeline(make_classifier(vision=False, classes=classes))
    (plain,) = pipeline.classify(texts="a dog sleeps on a mat")
    limit = sorted(plain.probability)[3]
    (found,) = pipeline.classify(texts="a dog sleeps on a mat", at_least=limit)
    assert [label is None for label in found.label] == [p < limit for p in plain.probability]
    assert not found.abstained
    assert found.probability == plain.probability
    (nothing,) = pipeline.classify(texts="a dog sleeps on a mat", at_least=1.0)
    assert nothing.abstained
    assert nothing.to_dict()["abstained"] is True
    assert {word["label"] for word in nothing.to_dict()["words"]} == {None}


@pytest.mark.parametrize("passes", [0, 3])
def test_what_is_told_depends_on_the_mean(make_classifier, photos, passes):
    pipeline = ClassifierPipeline(make_classifier(dropout=0.3))
    (found,) = pipeline.classify(photos[0], TEXT, passes=passes, at_least=0.9999)
    assert found.abstained == (found.probability < 0.9999)
