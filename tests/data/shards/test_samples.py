"""Which members are one sample, and which are refused."""

import io
import json
import os
import pickle

import pytest

from mmattn.data.problems import Problems
from mmattn.data.shards.samples import shard_samples
from mmattn.data.shards.tar import Member
from mmattn.errors import DataError


def samples(*members):
    """The samples of a shard that holds these (name, bytes)."""
    file, listed = io.BytesIO(), []
    for name, data in members:
        listed.append(Member(name, file.tell(), len(data)))
        file.write(data)
    problems = Problems("s.tar")
    found = shard_samples(file, listed, problems)
    problems.raise_if_any("")
    return found


def refused(*members):
    with pytest.raises(DataError) as caught:
        samples(*members)
    return str(caught.value)


def test_members_of_one_name_are_a_sample():
    first, second = samples(
        ("./a/01.jpg", b"12345"),
        ("./a/01.txt", b"a dog"),
        ("./a/02.v2.json", b"passed over"),
        ("./a/02.PNG", b"678"),
        ("./a/02.json", b'{"caption": "a cat", "url": "x"}'),
    )
    assert (first.key, first.captions, first.member) == (None, ("a dog",), "./a/01.jpg")
    assert first.key_in("train/s.tar") == first.key_in("./train//s.tar") == "train/s/a/01"
    assert (first.offset, first.size, second.size) == (0, 5, 3)
    assert second.captions == ("a cat",)


def test_captions_of_our_own_shards_come_first_and_keep_the_name_of_the_image():
    described = json.dumps({"key": "old name.jpg", "captions": ["é", "b"]}, ensure_ascii=False)
    (found,) = samples(("1.jpg", b"x"), ("1.txt", b"c"), ("1.json", described.encode()))
    assert (found.key, found.captions) == ("old name.jpg", ("é", "b"))
    assert found.key_in("train/s.tar") == "old name.jpg"
    (foreign,) = samples(("1.jpg", b"x"), ("1.json", b'{"key": "1", "caption": "c"}'))
    assert (foreign.key_in("s.tar"), foreign.captions) == ("s/1", ("c",))


def test_hidden_files_and_names_without_an_ending_are_passed_over():
    assert samples((".DS_Store", b""), ("._1.jpg", b""), ("README", b""), ("a/.x.jpg", b"")) == []


@pytest.mark.fault("F21")
@pytest.mark.parametrize("ending", ["pkl", "pyd", "pth", "PT", "meta.pickle", "ckpt"])
def test_pickles_are_refused_by_name_and_never_opened(tmp_path, ending):
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {marker}",)

    message = refused(("1.jpg", b"x"), ("1.txt", b"c"), (f"1.{ending}", pickle.dumps(Evil())))
    assert f"s.tar:'1.{ending}' is a pickle" in message
    assert not marker.exists()


@pytest.mark.fault("F15")
@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([("1.txt", b"c")], "s.tar:1: 0 images, where one was expected (1.txt)"),
        ([("1.jpg", b"x"), ("1.png", b"x")], "s.tar:1: 2 images"),
        (
            [("1.jpg", b""), ("2.jpg", b""), ("1.txt", b"c")],
            "s.tar:1: the members of a sample must",
        ),
        ([("1.jpg", b"x"), ("1.json", b"{")], "1.json is no JSON"),
        ([("1.jpg", b"x"), ("1.json", b"[" * 100_000)], "1.json is no JSON"),
        ([("1.jpg", b"x"), ("1.json", b"[]")], "1.json holds no JSON object"),
        ([("1.jpg", b"x"), ("1.json", b'{"captions": "x"}')], "the captions in its JSON are no"),
        ([("1.jpg", b"x"), ("1.json", b'{"caption": 3}')], "the captions in its JSON are no"),
        (
            [("1.jpg", b"x"), ("1.json", b'{"captions": ["a", "b\\ud800"]}')],
            r"s.tar:1: 1.json: 'b\ud800' holds half a surrogate pair",
        ),
        (
            [("1.jpg", b"x"), ("1.json", b'{"captions": ["a"], "key": "k\\udcff"}')],
            r"s.tar:1: 1.json: 'k\udcff' holds half a surrogate pair",
        ),
        ([("1.jpg", b"x"), ("1.txt", b"caf\xe9")], "1.txt is not UTF-8 text (byte offset 3: 0xe9)"),
        ([("1.jpg", b"x"), ("1.txt", b"x" * (1 << 21))], "1.txt has 2,097,152 bytes; the limit"),
    ],
)
def test_faults_are_told_with_the_sample(members, said):
    message = refused(*members, ("9.txt", b"alone"))
    assert said in message
    assert "s.tar:9: 0 images" in message
