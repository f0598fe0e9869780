from pathlib import Path

import pytest

from mmattn.data.caption_files.entry import Entry
from mmattn.data.caption_files.selection import selected, split_sizes
from mmattn.errors import ConfigError, DataError

ENTRIES = [
    Entry(1, ("a",), "one.jpg", "1", "train"),
    Entry(2, ("a",), "two.jpg", "2", "test"),
    Entry("x.jpg", ("a",), "x.jpg", "3", "test"),
]


def keys(split):
    return [entry.key for entry in selected(ENTRIES, split, Path("all.json"))]


def test_all_or_one_split():
    assert keys(None) == [1, 2, "x.jpg"]
    assert keys("test") == [2, "x.jpg"]
    assert split_sizes(ENTRIES) == "train (1), test (2)"


def test_a_file_lists_names_or_numbers(tmp_path):
    path = tmp_path / "images.txt"
    path.write_text("2\n\none.jpg\n")
    assert keys(str(path)) == [1, 2]
    path.write_text("2\nthree.jpg\n")
    with pytest.raises(
        DataError, match=r"images.txt lists .* no captions in all.json: 1 \('three.jpg'\)"
    ):
        keys(str(path))


def test_no_such_split():
    message = r"is called tst \(nearest: 'test'\); all.json has the splits train \(1\), test \(2\)"
    with pytest.raises(ConfigError, match=message):
        keys("tst")
    with pytest.raises(ConfigError, match=r"all\.json names no splits"):
        selected([ENTRIES[0]._replace(split=None)], "x", Path("all.json"))
