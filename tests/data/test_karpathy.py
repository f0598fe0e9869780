"""Karpathy's JSON in its exact form: of COCO with folders and restval, of Flickr without."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmattn.data.dataset import CaptionSource
from mmattn.data.karpathy import Karpathy
from mmattn.errors import ConfigError, DataError

SPLITS = ["train", "train", "restval", "val", "test", "test"]


def entry(i, split, coco):
    """An image as the file has it, with all its fields."""
    tokens = [["a", "dog", str(i)], ["two", "dogs", "run"]]
    found = {
        "sentids": [2 * i, 2 * i + 1],
        "imgid": i,
        "sentences": [
            {"tokens": words, "raw": f"{' '.join(words).capitalize()}.", "imgid": i, "sentid": n}
            for n, words in enumerate(tokens, start=2 * i)
        ],
        "split": split,
        "filename": f"COCO_val2014_{i:012d}.jpg" if coco else f"{i}_a.jpg",
    }
    return found | ({"filepath": "val2014", "cocoid": i} if coco else {})


def build(root, coco=True):
    images = [entry(i, split, coco) for i, split in enumerate(SPLITS) if coco or split != "restval"]
    folder = root / "val2014" if coco else root
    folder.mkdir(parents=True)
    for image in images:
        Image.new("RGB", (9, 8)).save(folder / image["filename"])
    write(root, {"images": images, "dataset": "coco" if coco else "flickr8k"})
    return root


def write(root, value):
    (root / "dataset.json").write_text(json.dumps(value))


def read(root):
    return json.loads((root / "dataset.json").read_text())


@pytest.fixture
def root(tmp_path):
    return build(tmp_path / "coco")


def test_coco(root):
    source: CaptionSource = Karpathy(root, "dataset.json")
    splits = source.splits()
    assert [len(splits.train), len(splits.val), len(splits.test[""])] == [3, 1, 2]
    assert splits.train.key(2) == "val2014/COCO_val2014_000000000002.jpg"
    assert splits.train.captions(2) == ("a dog 2.", "two dogs run.")
    assert splits.train.image(2).shape == (3, 8, 9)
    assert splits.notes == ()


def test_without_restval_by_tokens_and_in_capitals(root):
    splits = Karpathy(root, "dataset.json", restval=False, text="tokens").splits()
    assert len(splits.train) == 2
    assert splits.train.captions(0) == ("a dog 0", "two dogs run")
    kept = Karpathy(root, "dataset.json", lower_case=False).splits()
    assert kept.val.captions(0)[0] == "A dog 3."


def test_flickr_has_no_folders_and_images_may_lie_elsewhere(tmp_path):
    root = build(tmp_path / "flickr", coco=False)
    (root / "dataset.json").rename(tmp_path / "dataset.json")
    splits = Karpathy(tmp_path, "dataset.json", image_root=root).splits()
    assert splits.test[""].key(0) == "4_a.jpg"
    assert splits.test[""].image(0).shape == (3, 8, 9)


@pytest.mark.fault("F15")
@pytest.mark.fault("F19")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"split": "trian"}, "images[1]: the split 'trian' is none of train, restval, val, test"),
        ({"split": None}, "images[1]: 'split' is null, where a text"),
        ({"filepath": 3}, "images[1]: 'filepath' is no text"),
        ({"sentences": "x"}, "images[1]: 'sentences' is a text, where a list"),
        ({"sentences": [{"tokens": []}]}, "images[1].sentences[0]: no field 'raw'"),
        ({"sentences": [{"raw": "\udc00"}]}, "images[1].sentences[0]: The caption"),
        ({"filepath": "../.."}, "holds '..'"),
        ({"filepath": "/etc", "filename": "passwd"}, "is absolute"),
        ({"filename": "absent.jpg"}, "images[1]: 'val2014/absent.jpg' is no file in"),
    ],
)
def test_a_fault_is_told_with_its_entry(root, change, said):
    value = read(root)
    value["images"][1].update(change)
    value["images"][4]["filename"] = "absent too.jpg"
    write(root, value)
    with pytest.raises(DataError) as caught:
        Karpathy(root, "dataset.json").splits()
    assert said in str(caught.value)
    assert "images[4]: 'val2014/absent too.jpg' is no file in" in str(caught.value)


def test_tokens_that_are_no_texts(root):
    value = read(root)
    value["images"][0]["sentences"][1]["tokens"] = ["two", 2]
    write(root, value)
    with pytest.raises(DataError, match=r"sentences\[1\]: 'tokens' holds 2"):
        Karpathy(root, "dataset.json", text="tokens").splits()


@pytest.mark.fault("F18")
def test_an_image_that_is_listed_twice(root):
    value = read(root)
    value["images"].append(value["images"][0] | {"split": "test"})
    value["images"].append(value["images"][3])
    write(root, value)
    with pytest.raises(DataError) as caught:
        Karpathy(root, "dataset.json").splits()
    assert "is in split test, and in train (dataset.json:images[0])" in str(caught.value)
    assert "again, first dataset.json:images[3]" in str(caught.value)


@pytest.mark.fault("F17")
def test_images_without_a_caption_are_left_out(root):
    value = read(root)
    value["images"][0]["sentences"] = []
    value["images"][4]["sentences"][0]["raw"] = " "
    write(root, value)
    splits = Karpathy(root, "dataset.json").splits()
    assert len(splits.train) == 2
    assert splits.notes[0].endswith("left out: 1 (images[4].sentences[0])")
    assert splits.notes[1].endswith("left out: 1 (val2014/COCO_val2014_000000000000.jpg)")


def test_a_split_without_images(root):
    value = read(root)
    value["images"] = [each for each in value["images"] if each["split"] != "test"]
    write(root, value)
    assert Karpathy(root, "dataset.json").splits().test == {}
    value["images"] = [each for each in value["images"] if each["split"] != "val"]
    write(root, value)
    with pytest.raises(DataError, match="Split val has no image with a caption: 0 are listed"):
        Karpathy(root, "dataset.json").splits()


def test_another_text(root):
    with pytest.raises(ConfigError, match="give raw or tokens"):
        Karpathy(root, "dataset.json", text="words")


@pytest.mark.fault("F15")
@pytest.mark.fault("F16")
@settings(max_examples=25)
@given(st.binary(max_size=60), st.integers(0, 900))
def test_any_bytes_are_read_or_refused(data, at):
    with tempfile.TemporaryDirectory() as folder:
        root = build(Path(folder) / "set", coco=False)
        whole = (root / "dataset.json").read_bytes()
        (root / "dataset.json").write_bytes(whole[:at] + data + whole[at + len(data) :])
        try:
            assert len(Karpathy(root, "dataset.json").splits().train)
        except DataError:
            return
