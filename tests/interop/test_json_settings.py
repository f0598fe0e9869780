"""Values of a JSON file are of their kind, or refused in one line that says where they stand."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmattn.errors import CheckpointError
from mmattn.interop.json_settings import Settings, read_settings

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@given(JSON)
def test_a_value_is_of_its_kind_or_refused_in_one_line(value):
    settings = Settings({"key": value}, "file.json")
    for take, kinds in (
        (settings.whole, int),
        (settings.number, int | float),
        (settings.flag, bool),
        (settings.pair, tuple),
        (settings.channels, tuple),
        (settings.section, Settings),
        (lambda key: settings.choice(key, {1: "one", "x": "two"}), str),
    ):
        with suppress(CheckpointError):
            taken = take("key")
            assert isinstance(taken, kinds)
            assert isinstance(taken, bool) <= (kinds is bool)
            continue
        with pytest.raises(CheckpointError, match=r"^file\.json: .*key") as caught:
            take("key")
        assert "\n" not in str(caught.value)


def test_null_counts_as_missing():
    settings = Settings({"a": None, "b": 0}, "file.json")
    assert settings.given() == {"b": 0}
    assert (settings.has("a"), settings.has("b")) == (False, True)
    assert settings.whole("a", 3) == settings.whole("c", 3) == 3
    assert settings.section("a", {}).where == "file.json: a"
    with pytest.raises(CheckpointError, match=r"^file\.json: has no 'a'$"):
        settings.raw("a")


def test_one_number_stands_for_both_sides_and_for_all_channels():
    settings = Settings({"size": 3, "sides": [3, 4], "mean": 0.5, "std": [1, 0.25, 2]}, "file.json")
    assert (settings.pair("size"), settings.pair("sides")) == ((3, 3), (3, 4))
    assert settings.pair("absent", 7) == (7, 7)
    assert settings.channels("mean") == (0.5, 0.5, 0.5)
    assert settings.channels("std") == (1.0, 0.25, 2.0)
    assert settings.channels("absent", (0.0, 1.0, 2.0)) == (0.0, 1.0, 2.0)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([3], "'key' is [3]; it must be a whole number, or a height and a width"),
        ([3, 0], "key: 'width' is 0; it must be a whole number, 1 or more"),
        ("3", "'key' is '3'; it must be a whole number, 1 or more"),
        (None, "has no 'key'"),
    ],
)
def test_sides_that_cannot_be_are_named(value, message):
    with pytest.raises(CheckpointError) as caught:
        Settings({"key": value}, "file.json").pair("key")
    assert str(caught.value) == f"file.json: {message}"


def test_a_file_and_the_place_in_it_are_named(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"inner": {"a": 1}}')
    with pytest.raises(CheckpointError) as caught:
        read_settings(path).section("inner").flag("a")
    assert str(caught.value) == f"{path}: inner: 'a' is 1; it must be true or false"
    path.unlink()
    with pytest.raises(CheckpointError, match="no such file"):
        read_settings(path)
