import json

import pytest

from mmattn.data.caption_files.predictions import read_predictions
from mmattn.errors import DataError


@pytest.fixture
def write(tmp_path):
    """Writes a file, JSON unless it is text; returns its path."""

    def written(content):
        path = tmp_path / "results"
        path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
        return path

    return written


def test_cocos_results(write):
    found = read_predictions(
        write([{"image_id": 3, "caption": "a"}, {"image_id": 2, "caption": ""}])
    )
    assert [(e.key, e.captions, e.name) for e in found.entries] == [
        (3, ("a",), None),
        (2, ("",), None),
    ]
    assert found.unreadable == []


def test_lines_of_the_caption_command(write):
    lines = [
        {"image": "x/a.jpg", "caption": "a", "score": -1, "others": [{"caption": "b"}]},
        {"image": "x/b.jpg", "error": "no image"},
        {"image": "x/c.jpg", "captions": ["c", "d", "e"]},
    ]
    found = read_predictions(write("\n".join(map(json.dumps, lines))))
    assert [(e.key, e.captions) for e in found.entries] == [
        ("x/a.jpg", ("a", "b")),
        ("x/c.jpg", ("c", "d", "e")),
    ]
    assert found.unreadable == ["x/b.jpg"]
    (alone,) = read_predictions(write(lines[0])).entries
    assert alone == found.entries[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "results has no prediction: there is nothing to score"),
        ('{"image": "a", "error": "x"}', "results has no prediction"),
        ("a dog\n", "begins with 'a dog', which is no file of predictions: give COCO's results"),
        (
            '{"images": [], "annotations": []}',
            r"which is no file of predictions \(it may be one of",
        ),
        ('{"a": {"caption": "x"}}', "holds 'a', which is no file of predictions"),
        ("[[1]]", "is a list that begins with '\\[1\\]', which is no file of predictions"),
        ('[{"image_id": 1, "text": "x"}]', "holds 'image_id', 'text', which is no file"),
        (
            '[{"image_id": 1.5, "caption": "x"}]',
            r"no file of predictions \('image_id' is a number, where an integer or a name",
        ),
        ('[{"image_id": 1, "caption": 5}]', r"\[0\]: 'caption' is an integer, where a caption"),
        ('[{"image_id": 1, "caption": ["a", null]}]', r"\[0\]: 'caption\[1\]' is null"),
        (
            '[{"image_id": 1, "caption": "a"}, {"image_id": 1, "caption": "b"}]',
            r"\[1\]: image 1 again, first \[0\]: several captions of an image are a list",
        ),
        ('[{"image_id": 1, "caption": "a"}, {"image_id": 2}]', r"\[1\]: image 2 has no 'caption'"),
        ('[{"image_id": 1, "captions": []}]', "image 1 has no caption: 'captions' is empty"),
        ('{"image": "a", "caption": "x"}\n{"image": "b", "cap', "results:2: no JSON"),
        (
            '[{"image": "a", "caption": "x", "others": [{"text": "x"}]}]',
            r"'others\[0\]\.caption' is null",
        ),
    ],
)
def test_a_file_that_is_none_is_one_clear_message(write, content, message):
    with pytest.raises(DataError, match=message):
        read_predictions(write(content))
