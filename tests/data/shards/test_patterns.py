"""Braces and stars in the names of shards."""

import pytest

from mmattn.data.shards import patterns
from mmattn.data.shards.patterns import expand_braces, shard_names
from mmattn.data.shards.storage import storage
from mmattn.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a.tar", ["a.tar"]),
        ("{08..11}.tar", ["08.tar", "09.tar", "10.tar", "11.tar"]),
        ("{9..10}.tar", ["9.tar", "10.tar"]),
        ("{a,b}/{0..1}.tar", ["a/0.tar", "a/1.tar", "b/0.tar", "b/1.tar"]),
    ],
)
def test_braces(pattern, names):
    assert list(expand_braces(pattern)) == names


@pytest.mark.parametrize(
    "pattern", ["{a}.tar", "{1..x}.tar", "{2..1}.tar", "a}.tar", "{{1..2}.tar"]
)
def test_braces_that_mean_nothing(pattern):
    with pytest.raises(ConfigError, match=r"braces|counts"):
        list(expand_braces(pattern))


@pytest.mark.parametrize("pattern", ["{0..999999999999}.tar", "{0..999}{0..999}.tar"])
def test_too_many(pattern, tmp_path, monkeypatch):
    monkeypatch.setattr(patterns, "MAX_SHARDS", 1000)
    with pytest.raises(ConfigError, match=r"1,000"):
        shard_names(storage(tmp_path), pattern)


def test_stars_list_what_is_there(tmp_path):
    (tmp_path / "train").mkdir()
    for name in ("b.tar", "a.tar", "a.index.json"):
        (tmp_path / "train" / name).touch()
    there = storage(tmp_path)
    assert shard_names(there, "train/*.tar") == ["train/a.tar", "train/b.tar"]
    assert shard_names(there, ["train/b.tar", "x.tar"]) == ["train/b.tar", "x.tar"]
    with pytest.raises(DataError, match=r"has no train/\?\?\?\.tar"):
        shard_names(there, "train/???.tar")
    with pytest.raises(DataError, match=r"has no \.\./\*"):
        shard_names(there, "../*")
