"""Braces and stars in the names of shards."""

import fsspec
import pytest

from mmattn.data.shards import patterns
from mmattn.data.shards import storage as module
from mmattn.data.shards.patterns import expand_braces, shard_names
from mmattn.data.shards.storage import storage
from mmattn.errors import ConfigError, DataError, ReadError


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


@pytest.fixture
def memory():
    fs = fsspec.filesystem("memory")
    for name in ("a/x.tar", "b/y.tar", "z.tar"):
        fs.pipe(f"/stars/{name}", b"")
    yield storage("memory://stars")
    fs.rm("/stars", recursive=True)


def test_stars_at_a_url(memory):
    assert shard_names(memory, ["*.tar", "{a,b}/*.tar"]) == ["z.tar", "a/x.tar", "b/y.tar"]
    with pytest.raises(DataError, match=r"has no zz\.t\?r \(nearest: 'z\.tar'\)\. Where files"):
        shard_names(memory, "zz.t?r")
    with pytest.raises(ConfigError, match=r"\*/x\.tar: at a URL, stars stand behind the last"):
        shard_names(memory, "*/x.tar")


@pytest.mark.parametrize(
    ("failure", "kind"),
    [(FileNotFoundError("404"), DataError), (OSError("reset"), ReadError)],
)
def test_where_nothing_can_be_listed_the_message_says_what_to_do(
    memory, monkeypatch, failure, kind
):
    def refuse(self, path, **options):
        raise failure

    monkeypatch.setattr(module, "ATTEMPTS", 1)
    monkeypatch.setattr(type(fsspec.filesystem("memory")), "ls", refuse)
    with pytest.raises(DataError) as caught:
        shard_names(memory, "a/*.tar")
    assert type(caught.value) is kind
    message = str(caught.value)
    assert message.startswith(f"memory://stars/a cannot be read: {failure}. ")
    assert message.endswith(
        "Where files cannot be listed, as of most web servers, count them: train/{00000..00012}.tar"
    )


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
