import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmattn.metrics.entities import Entity, are_entity_tags, count_entities, entities

TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-x-y", "I-x-y"]
texts = st.lists(st.sampled_from(TAGS), max_size=12)


def slow_entities(tags):
    """The chunks as conlleval finds them: by whether one ends and one begins between two tags."""
    found, start, kind = [], None, None
    before, kind_before = "O", ""
    for place, tag in enumerate([*tags, "O"]):
        prefix, kind_here = (tag, "") if tag == "O" else tag.split("-", 1)
        ends = before in "BI" and (prefix in "BO" or kind_here != kind_before)
        begins = prefix == "B" or (prefix == "I" and (before == "O" or kind_here != kind_before))
        if ends:
            found.append((kind, start, place))
        if begins:
            start, kind = place, kind_here
        before, kind_before = prefix, kind_here
    return found


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("", []),
        ("O O", []),
        ("B-PER I-PER O B-LOC", [("PER", 0, 2), ("LOC", 3, 4)]),
        ("B-PER B-PER I-PER", [("PER", 0, 1), ("PER", 1, 3)]),
        ("I-PER I-PER O I-LOC", [("PER", 0, 2), ("LOC", 3, 4)]),  # IOB1
        ("B-PER I-LOC I-LOC", [("PER", 0, 1), ("LOC", 1, 3)]),
        ("B-PER O I-PER", [("PER", 0, 1), ("PER", 2, 3)]),
        ("I-PER B-PER", [("PER", 0, 1), ("PER", 1, 2)]),
        ("B-new-york I-new-york", [("new-york", 0, 2)]),
        ("B I O I", [("", 0, 2), ("", 3, 4)]),
    ],
)
def test_entities_are_runs_of_tags(tags, expected):
    assert entities(tags.split()) == [Entity(*each) for each in expected]


@given(texts)
def test_they_are_those_of_conlleval(tags):
    assert entities(tags) == slow_entities(tags)


def test_only_exact_matches_are_right():
    predicted = ["B-PER", "I-PER", "O", "B-LOC", "O", "B-LOC"]
    labels = ["B-PER", "I-PER", "O", "B-PER", "O", "O"]
    counts = count_entities([(predicted, labels), (["B-LOC", "O"], ["B-LOC", "I-LOC"])])
    assert counts == (1, 4, 3)
    assert counts.scores() == pytest.approx(
        {"entity_precision": 1 / 4, "entity_recall": 1 / 3, "entity_f1": 2 / 7}
    )


@given(st.lists(st.tuples(texts, texts).map(lambda pair: list(zip(*pair, strict=False)))))
def test_counts_are_those_of_the_slow_way(texts):
    pairs = [tuple(list(side) for side in zip(*text, strict=True)) for text in texts if text]
    found = [(set(slow_entities(a)), set(slow_entities(b))) for a, b in pairs]
    sizes = [(len(a & b), len(a), len(b)) for a, b in found]
    expected = tuple(sum(each[i] for each in sizes) for i in range(3))
    assert count_entities(pairs) == expected


def test_no_entity_on_one_side_is_zero_and_on_both_is_no_number():
    none, one = ["O", "O"], ["B-PER", "O"]
    assert set(count_entities([(none, one)]).scores().values()) == {0.0}
    assert set(count_entities([(one, none)]).scores().values()) == {0.0}
    assert all(math.isnan(x) for x in count_entities([(none, none)]).scores().values())


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (TAGS, True),
        (["O", "B", "I"], True),
        (["I-PER", "O"], True),
        (["O"], False),
        (["B-PER", "I-PER"], False),
        (["NOUN", "VERB", "O"], False),
        (["O", "B-PER", "E-PER", "S-PER"], False),
        (["B", "C", "I", "O"], False),
        ([], False),
    ],
)
def test_tags_are_told_from_other_classes(names, expected):
    assert are_entity_tags(names) is expected
