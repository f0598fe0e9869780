"""What is held out depends on names and seed alone, class by class, and groups stay together."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmattn.data.labelled.division import check_shares, divide, held_out_note
from mmattn.data.labelled.example import Example
from mmattn.errors import ConfigError, DataError


def examples(sizes, start=0):
    """Examples of one image each: class -> how many."""
    return [
        Example(f"{label}{i}", {"label": label}, images=(f"{label}/{i}.png",))
        for label, size in sizes.items()
        for i in range(start, start + size)
    ]


def keys(rows):
    return {example.key for example in rows}


def test_shares_and_order():
    rows = examples({"a": 100, "b": 50})
    parts = divide(rows, {"val": 0.1, "test": 0.2}, seed=0, head="label")
    counts = {split: Counter(e.labels["label"] for e in part) for split, part in parts.items()}
    assert counts == {
        "train": {"a": 70, "b": 35},
        "val": {"a": 10, "b": 5},
        "test": {"a": 20, "b": 10},
    }
    for part in parts.values():
        assert part == [example for example in rows if example in part]
    assert held_out_note(parts, 0).endswith("seed 0: 105 for train, 15 for val, 30 for test")


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(3, 30), min_size=1),
    st.floats(0.05, 0.4),
    st.floats(0.05, 0.4),
    st.integers(0, 5),
)
def test_each_example_is_in_one_part_and_each_class_in_training(sizes, val, test, seed):
    rows = examples(sizes)
    try:
        parts = divide(rows, {"val": val, "test": test}, seed, "label")
    except DataError:
        assert min(val, test) * len(rows) < 1
        return
    assert sum(map(len, parts.values())) == len(rows)
    assert set.union(*(keys(part) for part in parts.values())) == keys(rows)
    assert {example.labels["label"] for example in parts["train"]} == set(sizes)
    for label, size in sizes.items():  # never more than rounding away from a class's own share
        held = sum(example.labels["label"] == label for example in parts["val"])
        assert held <= val * size + 1.5


def test_many_small_classes_still_fill_a_split():
    rows = examples({f"c{i:02d}": 4 for i in range(30)})
    parts = divide(rows, {"val": 0.1}, 0, "label")
    assert len(parts["val"]) == 12


def test_a_class_keeps_an_example_for_training():
    rows = examples({"a": 1, "b": 2, "c": 20})
    for seed in range(5):
        parts = divide(rows, {"val": 0.5, "test": 0.4}, seed, "label")
        assert {example.labels["label"] for example in parts["train"]} == {"a", "b", "c"}
        assert sum(map(len, parts.values())) == 23


def test_the_same_names_and_seed_choose_the_same():
    rows = examples({"a": 40, "b": 40})
    chosen = divide(rows, {"val": 0.25}, 3, "label")["val"]
    assert keys(divide(rows[::-1], {"val": 0.25}, 3, "label")["val"]) == keys(chosen)
    assert keys(divide(rows, {"val": 0.25}, 4, "label")["val"]) != keys(chosen)


def test_examples_of_one_image_stay_together():
    rows = [
        Example(f"q{i}", {"answer": str(i % 3)}, images=(f"{i // 5}.png",), text=f"what {i}")
        for i in range(100)
    ]
    parts = divide(rows, {"val": 0.3, "test": 0.2}, 0, "answer")
    images = [{example.images for example in part} for part in parts.values()]
    assert sum(map(len, images)) == len(set.union(*images)) == 20


def test_a_share_of_nothing():
    rows = examples({"a": 20})
    assert set(divide(rows, {"val": 0.1, "test": 0.0}, 0)) == {"train", "val"}
    with pytest.raises(ConfigError, match="val_fraction is 0"):
        divide(rows, {"val": 0.0}, 0)


def test_too_few_examples():
    with pytest.raises(DataError, match=r"val_fraction 0\.1 of 2 groups .* in 2 classes"):
        divide(examples({"a": 1, "b": 1}), {"val": 0.1}, 0, "label")


@pytest.mark.parametrize("share", [-0.1, 1.0, 1.5, float("nan")])
def test_shares_are_checked(share):
    with pytest.raises(ConfigError, match="val_fraction is"):
        check_shares({"val_fraction": share, "test_fraction": 0.1})


def test_shares_leave_something():
    with pytest.raises(ConfigError, match=r"val_fraction 0\.5 \+ test_fraction 0\.5 leave nothing"):
        check_shares({"val_fraction": 0.5, "test_fraction": 0.5})
