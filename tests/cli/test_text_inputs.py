"""What a command line of images and texts means: pairs by place, or one for all."""

import io
import json
from pathlib import Path

import pytest

from mmattn.cli.text_inputs import Named, named_inputs, texts_alone
from mmattn.errors import ConfigError, DataError


@pytest.fixture
def texts(photos):
    """Write a file of texts; return its name."""

    def write(*lines, name="texts.txt"):
        Path(name).write_text("".join(f"{line}\n" for line in lines))
        return name

    return write


def said(found):
    return [(one.images, one.text) for one in found]


def test_images_alone(photos):
    found = named_inputs(["photos/deep", "photos/1.png"], (), None)
    assert said(found) == [
        (["photos/deep/3.png"], None),
        (["photos/deep/7.png"], None),
        (["photos/1.png"], None),
    ]


def test_texts_alone_each_line_that_says_something(texts):
    found = named_inputs((), (), texts("is it red? ", "", "  ", "or blue?"))
    assert said(found) == [([], "is it red?"), ([], "or blue?")]
    assert [one.where for one in found] == ["texts.txt:1", "texts.txt:4"]
    assert named_inputs((), ("a", "b"), None)[1] == Named([], "b", "--text 2")


def test_one_text_for_all_images_and_one_image_for_all_texts(photos):
    assert said(named_inputs(["photos/deep"], ["a"], None)) == [
        (["photos/deep/3.png"], "a"),
        (["photos/deep/7.png"], "a"),
    ]
    assert said(named_inputs(["photos/1.png"], ["a", "b"], None)) == [
        (["photos/1.png"], "a"),
        (["photos/1.png"], "b"),
    ]
    pairs = named_inputs(["photos/deep"], ["a", "b"], None)
    assert said(pairs) == [(["photos/deep/3.png"], "a"), (["photos/deep/7.png"], "b")]
    assert pairs[1].where == "photos/deep/7.png with --text 2"


def test_stdin_gives_one_text_a_line(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("a\n\nb c\r\n"))
    assert said(named_inputs((), (), "-")) == [([], "a"), ([], "b c")]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    with pytest.raises(DataError, match="-: holds no text: give one a line"):
        named_inputs((), (), "-")


def test_jsonl_gives_pairs_with_images_of_their_own(texts):
    lines = [
        {"image": "photos/1.png", "text": "a", "answer": "not looked at"},
        {"image": ["photos/1.png", "photos/2.png"], "text": ["two", "words"]},
        {"text": "b"},
        {"image": "photos/2.png", "text": None},
    ]
    name = texts(*map(json.dumps, lines), name="pairs.JSONL")
    found = named_inputs((), (), name)
    assert said(found) == [
        (["photos/1.png"], "a"),
        (["photos/1.png", "photos/2.png"], ["two", "words"]),
        ([], "b"),
        (["photos/2.png"], None),
    ]
    assert found[1].where == "pairs.JSONL:2"
    assert all(one.listed for one in found)


def test_jsonl_may_name_images_at_home(texts, monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    lines = ['{"image": ["~/1.png", "./~/2.png"]}', '{"image": "./3.png"}']
    found = named_inputs((), (), texts(*lines, name="pairs.jsonl"))
    assert said(found) == [(["/somewhere/1.png", "./~/2.png"], None), (["./3.png"], None)]


def test_lines_of_more_than_a_text_are_no_texts_alone(texts):
    assert texts_alone(texts("a", "b c")) == ["a", "b c"]
    for line in ('{"image": "1.png"}', '{"image": "1.png", "text": "a"}', '{"text": ["a", "b"]}'):
        with pytest.raises(DataError, match=r'lines\.jsonl:1: give a "text" alone'):
            texts_alone(texts(line, name="lines.jsonl"))


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("is it red?", r"pairs\.jsonl:1: no JSON"),
        ("[1]", "a list, where an object was expected"),
        ('{"image": 3, "text": "a"}', r'pairs\.jsonl:1: "image" is 3: give a path, or a list of'),
        ('{"image": ["a", 3]}', r'"image" is \["a", 3\]|"image" is \[\'a\', 3\]'),
        ('{"image": ""}', r'pairs\.jsonl:1: "image" is \'\', which names no file: give a path'),
        ('{"image": ["a.png", "."]}', r'"image" is \'\.\', which names no file'),
        ('{"image": "/"}', r'"image" is \'/\', which names no file'),
        ('{"text": 3}', r'pairs\.jsonl:1: "text" is 3: give a text, or a list of its words'),
        ('{"answer": "yes"}', r'pairs\.jsonl:1: neither an "image" nor a "text": give one'),
    ],
)
def test_a_line_that_is_no_input_is_named(texts, line, complaint):
    with pytest.raises(DataError, match=complaint):
        named_inputs((), (), texts(line, name="pairs.jsonl"))


def test_numbers_that_do_not_go_together_are_said(photos, texts):
    with pytest.raises(ConfigError, match="8 images and 2 texts: give as many of both"):
        named_inputs(["photos"], ["a", "b"], None)
    name = texts('{"image": "photos/1.png", "text": "a"}', name="pairs.jsonl")
    with pytest.raises(ConfigError, match=r"pairs\.jsonl:1 has an image of its own: name no"):
        named_inputs(["photos/1.png"], (), name)


def test_a_file_that_is_not_there_is_said(photos):
    with pytest.raises(DataError, match=r"nowhere\.txt"):
        named_inputs((), (), "nowhere.txt")
