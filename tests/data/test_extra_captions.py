import json
import pickle

import pytest
import torch

from mmattn.data.dataset import Splits
from mmattn.data.extra_captions import ExtraCaptions, endings
from mmattn.errors import DataError


class Photos:
    """Images `folder/0.png` and so on, with two captions each."""

    def __init__(self, folder, length=4):
        self.folder, self.length = folder, length

    def __len__(self):
        return self.length

    def key(self, index):
        return f"{self.folder}/{index}.png"

    def captions(self, index):
        return (f"picture {index}", "a picture")

    def path(self, index):
        return f"/data/{self.key(index)}"

    def image(self, index):
        return torch.full((3, 4, 4), index, dtype=torch.uint8)


def splits():
    return Splits(Photos("train"), Photos("val"), {"": Photos("test")}, notes=("a note",))


@pytest.fixture
def file(tmp_path):
    def write(*values):
        path = tmp_path / "taught.jsonl"
        lines = [value if isinstance(value, str) else json.dumps(value) for value in values]
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


LINES = [
    {"image": "/data/photos/train/1.png", "caption": " a  blue bird ", "score": -1.0},
    {"image": "train/3.png", "caption": "a picture"},
    {"image": "train/3.png", "caption": "a tree"},
    {"image": "train/2.png", "error": "is empty"},
    {"image": "train/0.png", "caption": "  "},
    {"image": "val/0.png", "caption": "a val picture"},
]


@pytest.mark.parametrize("replace", [True, False])
def test_training_images_get_the_captions_of_the_file(file, replace):
    found = ExtraCaptions(file(*LINES), replace=replace).added_to(splits())
    own = () if replace else ("picture 1", "a picture")
    assert found.train.captions(1) == (*own, "a blue bird")
    assert found.train.captions(3) == (
        ("a picture", "a tree") if replace else ("picture 3", "a picture", "a tree")
    )
    assert [found.train.captions(i) for i in (0, 2)] == [splits().train.captions(i) for i in (0, 2)]
    assert found.val.captions(0) == ("picture 0", "a picture")
    assert found.notes[0] == "a note"
    assert "3 captions of 2 of 4 training images" in found.notes[1]
    assert "1 of validation and test images were left out" in found.notes[1]


def test_all_else_of_the_images_stays(file):
    train = ExtraCaptions(file(*LINES)).added_to(splits()).train
    for each in (train, pickle.loads(pickle.dumps(train))):
        assert len(each) == 4
        assert each.key(1) == "train/1.png"
        assert each.path(1) == "/data/train/1.png"
        assert torch.equal(each.image(2), splits().train.image(2))
        assert not hasattr(each, "regions")


def test_all_lines_that_are_none_are_told_at_once(file):
    bad = ["no json", {"image": "train/1.png"}, {"image": "trian/1.png", "caption": "x"}, "[1]"]
    with pytest.raises(DataError, match=r"has 4 problems") as caught:
        ExtraCaptions(file(*LINES, *bad)).added_to(splits())
    said = str(caught.value)
    assert "taught.jsonl:7: no JSON" in said
    assert 'taught.jsonl:8: no object with an "image" and a "caption"' in said
    assert "no image of the data set is called 'trian/1.png' (nearest: 'train/1.png')" in said
    assert "Give data.extra_captions.path what" in said


def test_a_file_without_a_training_image_is_refused(file, tmp_path):
    with pytest.raises(DataError, match="has no caption of a training image"):
        ExtraCaptions(file(LINES[-1])).added_to(splits())
    with pytest.raises(DataError, match="is not a file"):
        ExtraCaptions(tmp_path / "none").added_to(splits())


def test_the_longest_ending_comes_first():
    assert endings("/a/b/c.png") == ["/a/b/c.png", "a/b/c.png", "b/c.png", "c.png"]
    assert endings("c.png") == ["c.png"]
