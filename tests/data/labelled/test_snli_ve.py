"""SNLI-VE: photo and hypothesis read, disputed pairs told, unknown labels refused by line."""

import json

import pytest
from PIL import Image

from mmattn.data.label_module import with_classes
from mmattn.data.labelled.snli_ve import CLASSES, SNLIVE
from mmattn.data.labelled.splits import LabelledSource
from mmattn.errors import DataError

FILES = {"train": "snli_ve_train.jsonl", "val": "snli_ve_dev.jsonl", "test": "snli_ve_test.jsonl"}
PHOTOS = {"train": ["1000092795", "10002456"], "val": ["3214567"], "test": ["4705552913"]}
LETTERS = dict(zip(CLASSES, "enc", strict=True))


def pair(photo, label, **changes):
    """A line as the authors' generator writes it: SNLI's fields, sorted, and the photo's id."""
    record = {
        "Flickr30K_ID": photo,
        "annotator_labels": [label, label, "neutral", label, label],
        "captionID": f"{photo}.jpg#2",
        "gold_label": label,
        "pairID": f"{photo}.jpg#2r1{LETTERS.get(label, 'n')}",
        "sentence1": "Two young guys with shaggy hair .",
        "sentence1_binary_parse": "( Two ( young guys ) )",
        "sentence2": f"The men are  {label}.",
        "sentence2_binary_parse": "( The men )",
    }
    record |= changes
    return json.dumps({key: value for key, value in record.items() if value is not ...}) + "\n"


def build(root, folder="flickr30k_images"):
    (root / folder).mkdir(parents=True)
    for split, photos in PHOTOS.items():
        lines = [pair(photo, label) for photo in photos for label in CLASSES]
        (root / FILES[split]).write_text("".join(lines))
        for photo in photos:
            Image.new("RGB", (8, len(photo))).save(root / folder / f"{photo}.jpg", quality=90)
    for i, path in enumerate(sorted((root / folder).iterdir())):
        Image.new("RGB", (8 + i, 8)).save(path)  # no two alike
    return root


@pytest.fixture
def root(tmp_path):
    return build(tmp_path / "snli_ve")


def append(root, split, line):
    path = root / FILES[split]
    path.write_text(path.read_text() + line)


def refused(source):
    with pytest.raises(DataError) as caught:
        source.splits()
    return str(caught.value)


def test_the_official_files(root):
    source: LabelledSource = SNLIVE(root)
    splits = source.splits()
    assert splits.notes == ()
    sets = (splits.train, splits.val, splits.test[""])
    assert [len(part.examples) for part in sets] == [6, 3, 3]
    assert len(splits.train) == 2  # a photo is read once for its hypotheses
    last = splits.test[""].examples[2]
    assert last.key == "4705552913.jpg#2r1c"
    assert last.labels == {"relation": "contradiction"}
    assert last.text == "The men are contradiction."
    assert last.images == ("4705552913.jpg",)
    assert last.place == "snli_ve_test.jsonl:3"
    assert splits.test[""].images(0)[0].shape[1:] == (8, 11)
    assert with_classes(splits)[1]["relation"].names == ("entailment", "neutral", "contradiction")


@pytest.mark.parametrize("field", ["Flikr30kID", "Flickr30kID"])
def test_the_spellings_of_other_releases(root, field):
    line = pair("10002456", "neutral", pairID="new", Flickr30K_ID=..., **{field: "10002456.jpg"})
    append(root, "train", line)
    found = {example.key: example for example in SNLIVE(root).splits().train.examples}
    assert found["new"].images == ("10002456.jpg",)


def test_the_folder_of_the_photos(tmp_path):
    root = build(tmp_path / "set", "flickr30k-images")
    assert len(SNLIVE(root).splits().train) == 2
    (root / "flickr30k_images").mkdir()
    assert "choose one, as in image_root=" in refused(SNLIVE(root))
    (root / "flickr30k_images").rmdir()
    (root / "flickr30k-images").rename(tmp_path / "photos")
    assert "has no folder flickr30k_images or flickr30k-images" in refused(SNLIVE(root))
    assert len(SNLIVE(root, image_root=tmp_path / "photos").splits().train) == 2
    assert "image_root=" in refused(SNLIVE(root, image_root=tmp_path / "nowhere"))


def test_what_cannot_be_used_is_told(root):
    append(root, "val", pair("3214567", "-", pairID="disputed"))
    append(root, "val", pair("3214567", "neutral", pairID="empty", sentence2=" \u200b"))
    splits = SNLIVE(root).splits()
    assert len(splits.val.examples) == 3
    assert splits.notes == (
        "snli_ve_dev.jsonl: annotators did not agree, left out: 1 (disputed)",
        "snli_ve_dev.jsonl: no hypothesis, left out: 1 (empty)",
    )


def test_a_photo_in_two_splits_is_a_leak(root):
    append(root, "test", pair("1000092795", "neutral", sentence2="New."))
    (note,) = SNLIVE(root).splits().notes
    assert note == "Leak: the same image in different splits: 1 (1000092795.jpg (train, test))"


# ----------------------------------------------------------------------- refused


def test_missing_files(root, tmp_path):
    assert "github.com/necla-ml/SNLI-VE" in refused(SNLIVE(tmp_path / "nowhere"))
    (root / FILES["val"]).rename(root / "snli_ve_val.jsonl")
    assert "snli_ve_dev.jsonl: val pairs (nearest: 'snli_ve_val.jsonl')" in refused(SNLIVE(root))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"gold_label": "neutrall"}, "unknown label 'neutrall' (nearest: 'neutral')"),
        ({"gold_label": "Entailment"}, "unknown label 'Entailment' (nearest: 'entailment')"),
        ({"gold_label": ...}, "no field 'gold_label'"),
        ({"gold_label": 1}, "'gold_label' is an integer, where a text was expected"),
        ({"sentence2": ...}, "no field 'sentence2' (nearest: 'sentence1')"),
        ({"sentence2": None}, "'sentence2' is null"),
        ({"sentence2": "\ud83d"}, "The caption '\\ud83d' holds half a surrogate pair"),
        ({"Flickr30K_ID": ...}, "no photo: none of the fields Flickr30K_ID, Flickr30kID, "),
        ({"Flickr30K_ID": ""}, "no photo: Flickr30K_ID is ''"),
        ({"Flickr30K_ID": 5}, "'Flickr30K_ID' is an integer, where a text was expected"),
        ({"pairID": ...}, "no field 'pairID'"),
        ({"pairID": "10002456.jpg#2r1e"}, "#2r1e again, first snli_ve_train.jsonl:4"),
    ],
)
def test_malformed_lines(root, changes, fault):
    append(root, "train", pair("10002456", "neutral", **({"pairID": "new"} | changes)))
    append(root, "train", pair("10002456", "unknown", pairID="newer"))
    message = refused(SNLIVE(root))
    assert "snli_ve_train.jsonl has 2 problems" in message
    assert "snli_ve_train.jsonl:7: " in message
    assert fault in message
    assert "snli_ve_train.jsonl:8: unknown label 'unknown'" in message


def test_lines_that_are_no_json(root):
    append(root, "test", '{"pairID": }\n[]\n')
    message = refused(SNLIVE(root))
    assert "snli_ve_test.jsonl:4: no JSON: Expecting value at column 12" in message
    assert "snli_ve_test.jsonl:5: a list, where an object was expected" in message


def test_photos_that_cannot_be_used(root):
    (root / "flickr30k_images" / "10002456.jpg").unlink()
    (root / "flickr30k_images" / "3214567.jpg").write_bytes(b"<html>")
    message = refused(SNLIVE(root))
    assert "2 of 4 images cannot be used" in message
    assert "snli_ve_train.jsonl:4: " in message
    assert "snli_ve_dev.jsonl:1: " in message
    message = refused(SNLIVE(root, leave_out_bad=True))
    assert "Split val has no example left: 3 of its examples could be read" in message
    append(root, "val", pair("1000092795", "neutral"))
    splits = SNLIVE(root, leave_out_bad=True).splits()
    assert len(splits.train.examples) == 3
    assert any("Images missing or damaged: 2 (" in note for note in splits.notes)


def test_a_name_that_leaves_the_folder(root):
    append(root, "train", pair("../secret", "neutral", pairID="new"))
    message = refused(SNLIVE(root, leave_out_bad=True))
    assert "snli_ve_train.jsonl:7: The file name '../secret.jpg' holds '..'" in message
