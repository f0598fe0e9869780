import gzip
import json

import pytest

from mmattn.data.caption_files.references import read_references
from mmattn.errors import DataError

COCO = {
    "images": [{"id": 7, "file_name": "7.jpg"}, {"id": 9}, {"id": 8, "file_name": "8.jpg"}],
    "annotations": [
        {"id": 1, "image_id": 8, "caption": "A dog."},
        {"id": 2, "image_id": 7, "caption": "A cat."},
        {"id": 3, "image_id": 8, "caption": "The dog\n runs."},
    ],
}
KARPATHY = {
    "images": [
        {"filename": "a.jpg", "cocoid": 4, "split": "val", "sentences": [{"raw": "A dog."}]},
        {"filename": "b.jpg", "split": "test", "sentences": [{"raw": "A"}, {"raw": "B"}]},
    ]
}


@pytest.fixture
def write(tmp_path):
    """Writes a file, JSON unless it is text; returns its path."""

    def written(content, name="references"):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
        return path

    return written


def told(path):
    return [(entry.key, entry.captions, entry.name, entry.split) for entry in read_references(path)]


def test_cocos_json(write):
    """In the order of its images; those without a caption are left out."""
    dogs, cat = ("A dog.", "The dog\n runs."), ("A cat.",)
    assert told(write(COCO)) == [(7, cat, "7.jpg", None), (8, dogs, "8.jpg", None)]
    alone = {"annotations": COCO["annotations"]}
    assert told(write(alone)) == [(8, dogs, None, None), (7, cat, None, None)]


def test_karpathys_json(write):
    assert told(write(KARPATHY)) == [
        (4, ("A dog.",), "a.jpg", "val"),
        ("b.jpg", ("A", "B"), "b.jpg", "test"),
    ]


def test_flickrs_token_file(write):
    lines = "a.jpg#0\tA dog .\nb.jpg#0\tA cat #1\tlives\n\na.jpg#1\tThe dog .\n"
    assert told(write(lines)) == [
        ("a.jpg", ("A dog .", "The dog ."), "a.jpg", None),
        ("b.jpg", ("A cat #1\tlives",), "b.jpg", None),
    ]


@pytest.mark.parametrize(
    "content",
    [
        '{"image": "a", "captions": ["x", "y"]}\n\n{"image": "b", "references": ["z"]}\n',
        '{"image": "a", "caption": "x"}\n{"image": "b", "caption": "z"}\n'
        '{"image": "a", "caption": "y"}\n',
        [{"image": "a", "captions": ["x", "y"]}, {"image_id": "b", "caption": "z"}],
        {"images": [{"image": "a", "captions": ["x", "y"]}, {"image": "b", "captions": ["z"]}]},
    ],
)
def test_plain_json_and_lines_of_it(write, content):
    assert told(write(content)) == [("a", ("x", "y"), "a", None), ("b", ("z",), "b", None)]


def test_one_line_is_enough(write):
    assert told(write({"image": "a", "caption": "x"})) == [("a", ("x",), "a", None)]


def test_gzip_is_unpacked_whatever_a_file_is_called(write, tmp_path):
    packed = tmp_path / "packed.json"
    packed.write_bytes(gzip.compress(json.dumps(COCO).encode()))
    assert told(packed) == told(write(COCO))
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"packed\.json cannot be unpacked: .*Copy or download"):
        read_references(packed)
    packed.write_bytes(gzip.compress(b""))
    with pytest.raises(DataError, match=r"packed\.json is empty when unpacked"):
        read_references(packed)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("annotations.1.caption", 5, r"annotations\[1\]: 'caption' is an integer, where a text"),
        ("annotations.1.image_id", 1, r"annotations\[1\]: there is no image with the id 1"),
        ("annotations.1.image_id", True, r"annotations\[1\]: 'image_id' is true or false"),
        ("images.1.id", 7, r"images\[1\]: the id 7 again"),
        ("annotations", {}, r"'annotations' is an object, where a list was expected"),
        ("images", 3, r"'images' is an integer, where a list was expected"),
    ],
)
def test_what_is_wrong_in_cocos_json_is_named(write, set_at, place, value, message):
    content = json.loads(json.dumps(COCO))
    keys = [int(part) if part.isdigit() else part for part in place.split(".")]
    set_at(content, keys, value)
    with pytest.raises(DataError, match=message):
        read_references(write(content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"references is empty \(0 bytes\)"),
        (" \n\n", "holds nothing but white space"),
        ("hello\n", "begins with 'hello', which is no file of references: COCO's captions"),
        ('{"images": [', "references:1: no JSON"),
        ("[]", "is an empty list, which is no file of references"),
        ("[3]", "is a list that begins with '3', which is no file"),
        ('{"a": 1}', "holds 'a', which is no file of references"),
        ('{"image": "a"}\n{"image": "b"}\n', "has entries with 'image', which is no file"),
        ("a.jpg#0\tx\na dog\n", "references:2: no `name.jpg#0`, tab, caption: 'a dog'"),
        ('{"image": "a", "captions": ["x", 3]}\n{"image": "b", "caption": null}\n', "2 problems"),
        ('[{"image": "a", "caption": "x"}, {"image": "b"}]', r"\[1\]: no captions: none of"),
        ('[{"image": "a", "caption": "x"}, {"caption": "b"}]', r"\[1\]: no field that names"),
        ('[{"image": "a", "caption": "x"}, {"image": " ", "caption": "b"}]', "names no image"),
        ('[{"image": "a", "caption": "x"}, 3]', r"\[1\]: an integer, where an object"),
        ('{"annotations": []}', "has no image with a caption"),
        ('{"image": "a", "caption": "\\ud800"}', "holds half a surrogate pair"),
    ],
)
def test_a_file_that_is_none_is_one_clear_message(write, content, message):
    with pytest.raises(DataError, match=message):
        read_references(write(content))


def test_karpathys_entries_are_checked(write, set_at):
    content = json.loads(json.dumps(KARPATHY))
    set_at(content, ["images", 1, "sentences", 0], {"raw": 3})
    with pytest.raises(DataError, match=r"images\[1\]: 'raw' is an integer"):
        read_references(write(content))


def test_an_image_twice_in_karpathys_json_is_named(write):
    twice = {"images": [*KARPATHY["images"], KARPATHY["images"][1]]}
    with pytest.raises(DataError, match=r"images\[2\]: image 'b.jpg' again, first images\[1\]"):
        read_references(write(twice))


def test_real_captions(data_root):
    entries = read_references(data_root / "coco-eval" / "captions_val2017.json.gz")
    assert len(entries) == 5000
    assert sum(len(entry.captions) for entry in entries) == 25014
    photos = read_references(data_root / "flickr8k" / "Flickr8k.token.txt")
    assert (len(photos), sum(len(entry.captions) for entry in photos)) == (8092, 40460)
