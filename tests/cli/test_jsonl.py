"""A file of lines that may be cut anywhere and gone on with, and nothing else is ever changed."""

import io
import sys

import pytest

from mmattn.cli.jsonl import CAPTIONS, CLASSES, appending, key_of, mend, read_lines, write_line
from mmattn.errors import DataError
from mmattn.pipeline.json_line import json_line

LINES = [
    {"image": "a b.png", "caption": "an owl", "score": -0.5},
    {"image": 'ü"\n.png', "error": "no image"},
    {"image": "c", "caption": "", "others": [{"caption": "error"}]},
]
WHOLE = b"".join(map(json_line, LINES))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "captions.jsonl"


def test_lines_are_read_as_they_were_written(path):
    path.write_bytes(WHOLE)
    found = list(read_lines(path, CAPTIONS))
    assert [line.key for line in found] == [line["image"] for line in LINES]
    assert [line.bad for line in found] == [False, True, False]
    assert b"".join(line.raw for line in found) == WHOLE


def test_no_file_has_no_line(path):
    assert list(read_lines(path, CAPTIONS)) == []
    mend(path, CAPTIONS)
    assert not path.exists()


@pytest.mark.parametrize("kept", range(len(WHOLE) + 1))
@pytest.mark.fault("F32")
def test_a_file_that_was_cut_anywhere_keeps_its_whole_lines(path, kept):
    path.write_bytes(WHOLE[:kept])
    mend(path, CAPTIONS)
    lines = path.read_bytes().splitlines(keepends=True)
    assert lines == WHOLE.splitlines(keepends=True)[: len(lines)]
    whole = WHOLE[: kept + 1].count(b"\n")  # one that lacks its line break only is whole
    assert len(lines) == whole
    assert len(list(read_lines(path, CAPTIONS))) == whole


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"my diary", "line 1: no line of captions: give another file"),
        (b"my diary\n", "line 1: no JSON"),
        (WHOLE + b"\n" + WHOLE, "line 4: no JSON"),
        (WHOLE + b'{"image": }\n', "line 4: no JSON"),
        (WHOLE + b"[1]\n", 'line 4: no JSON object with an "image"'),
        (b'{"text": "mine"}\n', 'line 1: no JSON object with an "image"'),
        (b'{"image": 5}\n', 'line 1: no JSON object with an "image"'),
        (WHOLE + b'{"text": "mine"', "line 4: no line of captions"),
        (WHOLE + b"\0\0\0", "line 4: no line of captions"),
        (b"\x89PNG\r\n\x1a\n", "line 1: no JSON"),
        (b"[" * 100_000 + b"\n", "line 1: no JSON"),
        (b'{\n  "image": 1\n}', "line 1: no JSON"),
    ],
)
@pytest.mark.fault("F32")
def test_any_other_file_is_refused_by_its_line_and_stays_as_it_is(path, content, said):
    path.write_bytes(content)
    with pytest.raises(DataError, match=said) as raised:
        mend(path, CAPTIONS)
    assert str(raised.value).startswith(f"{path}, line ")
    assert path.read_bytes() == content


def test_lines_are_handed_over_at_once_and_go_on_where_the_file_ends(path):
    for part in (LINES[:1], LINES[1:]):
        with appending(path) as file:
            for line in part:
                write_line(file, line)
                assert path.read_bytes().endswith(json_line(line))
    assert path.read_bytes() == WHOLE


def test_the_folder_is_made(tmp_path):
    with appending(tmp_path / "new" / "er" / "a.jsonl") as file:
        write_line(file, LINES[0])
    assert len(list(read_lines(tmp_path / "new" / "er" / "a.jsonl", CAPTIONS))) == 1


@pytest.mark.fault("F29")
def test_stdout_gets_utf8_whatever_its_encoding(monkeypatch):
    bytes_out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(bytes_out, "latin-1"))
    with appending(None) as file:
        write_line(file, {"image": "猫.png"})
    assert bytes_out.getvalue() == '{"image": "猫.png"}\n'.encode()


@pytest.mark.fault("F32")
def test_a_closed_stdout_has_no_reader(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(BrokenPipeError), appending(None):
        pass


ANSWERS = [
    {"image": "a.png", "label": "yes"},
    {"image": "a.png", "text": "is it red?", "label": "yes"},
    {"image": ["a.png", "b.png"], "text": "alike?", "heads": {}},
    {"text": "is it red?", "label": "no"},
    {"text": ["is", "it"], "label": ["O", "O"]},
    {"image": "b.png", "text": "is it red?", "error": "no image"},
]
TOLD = b"".join(map(json_line, ANSWERS))


def test_classes_are_of_an_image_a_text_or_both(path):
    path.write_bytes(TOLD)
    found = list(read_lines(path, CLASSES))
    assert [line.key for line in found] == [
        "a.png",
        *(key_of(line.get("image"), line.get("text")) for line in ANSWERS[1:]),
    ]
    assert len({line.key for line in found}) == len(ANSWERS)
    assert [line.bad for line in found] == [False] * 5 + [True]


@pytest.mark.parametrize("kept", range(0, len(TOLD) + 1, 3))
@pytest.mark.fault("F32")
def test_a_file_of_classes_that_was_cut_keeps_its_whole_lines(path, kept):
    path.write_bytes(TOLD[:kept])
    mend(path, CLASSES)
    assert len(list(read_lines(path, CLASSES))) == TOLD[: kept + 1].count(b"\n")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (WHOLE, "line 1: no line of classes: give another file with --out"),
        (b'{"text": "my data", "answer": "mine"}\n', "line 1: no line of classes"),
        (b'{"label": "yes"}\n', 'no JSON object with an "image" or a "text"'),
        (b'{"image": 3, "text": "a", "label": "yes"}\n', 'no JSON object with an "image" or'),
        (b'{"words": [', "line 1: no line of classes"),
    ],
)
def test_a_file_of_anything_else_than_classes_is_refused(path, content, said):
    path.write_bytes(content)
    with pytest.raises(DataError, match=said):
        mend(path, CLASSES)
    assert path.read_bytes() == content


def test_a_file_of_classes_is_no_file_of_captions(path):
    path.write_bytes(TOLD)
    with pytest.raises(DataError, match="line 1: no line of captions: give another file"):
        mend(path, CAPTIONS)
