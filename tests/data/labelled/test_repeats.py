"""Inputs that occur twice are told, and never left out."""

import pytest

from mmattn.data.labelled.example import Example
from mmattn.data.labelled.repeats import repeat_notes, shared_images


def example(key, image=None, text=None, label="yes"):
    return Example(key, {"answer": label}, images=(image,) if image else (), text=text)


def test_no_repeats_no_notes():
    parts = {"train": [example("1", "a.png", "x"), example("2", "a.png", "y")], "val": []}
    assert repeat_notes(parts) == []
    assert shared_images(parts) == []


@pytest.mark.fault("F18")
def test_repeats_within_a_split_and_leaks_between_splits():
    parts = {
        "train": [example("1", "a.png", "x"), example("2", "a.png", "x"), example("3", text="z")],
        "val": [example("4", text="z", label="no")],
    }
    assert repeat_notes(parts) == [
        "Leak: the same input in different splits: 1 (3 (train) = 4 (val))",
        "The same input more than once in a split, kept: 1 (1 (train) = 2 (train))",
        "The same input with different labels, kept: 1 (3 (train) = 4 (val))",
    ]


def test_labels_of_different_heads_do_not_contradict():
    parts = {"train": [Example("1", {"a": "x"}, text="t"), Example("2", {"b": "y"}, text="t")]}
    assert not any("different labels" in note for note in repeat_notes(parts))


def test_test_sets_may_share():
    parts = {
        "train": [],
        "test/seen": [example("1", "a.png")],
        "test/unseen": [example("1", "a.png")],
    }
    assert not any(note.startswith("Leak") for note in repeat_notes(parts))
    assert shared_images(parts) == []


@pytest.mark.fault("F18")
def test_the_same_image_with_another_text_in_another_split():
    parts = {"train": [example("1", "a.png", "x")], "test": [example("2", "a.png", "y")]}
    assert repeat_notes(parts) == []
    (note,) = shared_images(parts)
    assert note == "Leak: the same image in different splits: 1 (a.png (train, test))"
