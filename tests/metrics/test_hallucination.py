import math

import pytest

from mmattn.metrics.hallucination import ObjectWords, plurals
from mmattn.metrics.ptb import tokenize

OBJECTS = {
    "dog": ["dog", "puppy"],
    "hot dog": ["hot dog"],
    "child": ["child", "children", "boy"],
    "knife": ["knife"],
    "man": ["man"],
}


@pytest.mark.parametrize(
    ("word", "plural"),
    [
        ("dog", "dogs"),
        ("bus", "buses"),
        ("bench", "benches"),
        ("potato", "potatoes"),
        ("puppy", "puppies"),
        ("boy", "boys"),
        ("knife", "knives"),
        ("wolf", "wolves"),
        ("woman", "women"),
    ],
)
def test_regular_plurals(word, plural):
    assert plural in plurals(word)
    assert "boies" not in plurals(word)


@pytest.mark.parametrize(
    ("caption", "found"),
    [
        ("A dog and two puppies.", ["dog", "dog"]),
        ("a hot dog, hot dogs and a hot puppy", ["hot dog", "hot dog", "dog"]),
        ("Children with knives", ["child", "knife"]),
        ("a human on the dogma", []),
        ("the dog's bone", ["dog"]),
        ("", []),
    ],
)
def test_objects_are_found_in_singular_and_plural(caption, found):
    assert list(ObjectWords(OBJECTS).named(tokenize(caption))) == found


def test_chair_counts_mentions_and_captions():
    references = [["a puppy", "a boy with it"], ["a man"], ["grass"]]
    predictions = ["two dogs, a man and a child", "a man", "grass"]
    chair = ObjectWords(OBJECTS).chair(
        [[tokenize(text) for text in image] for image in references],
        list(map(tokenize, predictions)),
    )
    assert chair.mentioned == [["dog", "man", "child"], ["man"], []]
    assert chair.made_up == [["man"], [], []]
    assert chair.scores["CHAIR_i"].score == 1 / 4
    assert chair.scores["CHAIR_s"].score == 1 / 3


def test_chair_i_is_undefined_where_no_object_is_named():
    chair = ObjectWords(OBJECTS).chair([[["grass"]]], [["grass"]])
    assert math.isnan(chair.scores["CHAIR_i"].score)
    assert chair.scores["CHAIR_s"].score == 0
