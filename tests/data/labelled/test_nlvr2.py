"""NLVR2: two photos an example, wherever they lie, and identifiers that must fit their file."""

import json

import pytest
from PIL import Image

from mmattn.data.label_module import with_classes
from mmattn.data.labelled.nlvr2 import NLVR2
from mmattn.data.labelled.splits import LabelledSource
from mmattn.errors import ConfigError, DataError

PAIRS = {
    "train": ["train-10171-0", "train-10171-1", "train-20-0"],
    "dev": ["dev-850-0", "dev-850-1"],
    "test1": ["test1-0-0", "test1-0-1"],
    "test2": ["test2-189-0", "test2-189-1"],
}


def line(pair, number=0, **changes):
    """A line as the authors write it; that of training has the number of a folder too."""
    record = {
        "validation": {"77": "True"},
        "sentence": f"All the  bottles of {pair}, {number}.",
        "left_url": "https://example.org/left.jpg",
        "writer": "103",
        "label": "True" if number else "False",
        "right_url": "https://example.org/right.jpg",
        "synset": "beer bottle",
        "query": "some beer bottles2",
        "identifier": f"{pair}-{number}",
        "extra_validations": {"56": "True"},
    }
    record |= {"directory": 37} if pair.startswith("train") else {}
    record |= changes
    return json.dumps({key: value for key, value in record.items() if value is not ...}) + "\n"


def photo(root, path, size):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    # As the authors warn, not all files of this ending are PNGs.
    Image.new("RGB", size).save(root / path, format="JPEG" if size[0] % 2 else "PNG")


def build(root, images=""):
    width = 8
    root.mkdir(parents=True)
    for split, pairs in PAIRS.items():
        lines = [line(pair, number) for pair in pairs for number in (0, 1)]
        (root / f"{split}.json").write_text("".join(lines))
        for pair in pairs:
            for side in (0, 1):
                inner = f"{split}/37" if split == "train" else split
                photo(root / images, f"{inner}/{pair}-img{side}.png", (width, 8))
                width += 1
    return root


@pytest.fixture
def root(tmp_path):
    return build(tmp_path / "nlvr2")


def append(root, split, text):
    path = root / f"{split}.json"
    path.write_text(path.read_text() + text)


def refused(source):
    with pytest.raises(DataError) as caught:
        source.splits()
    return str(caught.value)


def test_the_official_files(root):
    source: LabelledSource = NLVR2(root)
    splits = source.splits()
    assert splits.notes == ()
    assert [len(part.examples) for part in (splits.train, splits.val)] == [6, 4]
    assert {name: len(part.examples) for name, part in splits.test.items()} == {"test1": 4}
    example = splits.train.examples[1]
    assert example.key == "train-10171-0-1"
    assert example.labels == {"label": "True"}
    assert example.text == "All the bottles of train-10171-0, 1."
    assert example.place == "train.json:2"
    assert example.images == (
        "train/37/train-10171-0-img0.png",
        "train/37/train-10171-0-img1.png",
    )
    left, right = splits.train.images(0)
    assert (left.shape, right.shape) == ((3, 8, 8), (3, 8, 9))
    assert splits.val.examples[0].images[1] == "dev/dev-850-0-img1.png"
    assert len(splits.train) == 3  # a pair is read once for its two sentences
    assert with_classes(splits)[1]["label"].names == ("False", "True")


def test_both_test_sets(root):
    splits = NLVR2(root, tests=["test1", "test2"]).splits()
    assert {name: len(part.examples) for name, part in splits.test.items()} == {
        "test1": 4,
        "test2": 4,
    }
    with pytest.raises(ConfigError, match="tests: 'test': give some of test1, test2"):
        NLVR2(root, tests=["test"])


def test_no_test_set(root):
    splits = NLVR2(root, tests=[]).splits()
    assert splits.notes == ("There is no test set: nothing is tested after training",)


def test_photos_elsewhere(tmp_path):
    root = build(tmp_path / "set", "images")
    assert "train: train photos" in refused(NLVR2(root))
    splits = NLVR2(root, image_root=root / "images").splits()
    assert len(splits.train) == 3
    assert splits.train.images(0)[1].shape == (3, 8, 9)
    assert "image_root=" in refused(NLVR2(root, image_root=root / "nowhere"))


def test_an_empty_sentence_is_told(root):
    append(root, "dev", line("dev-850-1", 2, sentence=""))
    splits = NLVR2(root).splits()
    assert splits.notes == ("dev.json: empty sentences, left out: 1 (dev-850-1-2)",)
    assert len(splits.val.examples) == 4


# ----------------------------------------------------------------------- refused


def test_missing_files(root, tmp_path):
    assert "github.com/lil-lab/nlvr" in refused(NLVR2(tmp_path / "nowhere"))
    (root / "dev.json").rename(root / "devel.json")
    (root / "test1.json").unlink()
    message = refused(NLVR2(root))
    assert "dev.json: val examples (nearest: 'devel.json')" in message
    assert "test1.json: test1 examples" in message


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"label": "true"}, "unknown label 'true' (nearest: 'True')"),
        ({"label": ""}, "unknown label ''"),
        ({"label": True}, "'label' is true or false, where a text was expected"),
        ({"label": ...}, "no field 'label'"),
        ({"sentence": ...}, "no field 'sentence'"),
        ({"sentence": "\ud83d"}, "holds half a surrogate pair"),
        ({"identifier": ...}, "no field 'identifier'"),
        ({"identifier": "train-20-0"}, "the identifier 'train-20-0', where train-0-0-0 has the f"),
        ({"identifier": "../x-1-0-0"}, "the identifier '../x-1-0-0', where train-0-0-0 has the"),
        ({"identifier": "dev-1-0-0"}, "the identifier dev-1-0-0 is of dev, not of train"),
        ({"identifier": "train-20-0-1"}, "train-20-0-1 again, first train.json:6"),
    ],
)
def test_malformed_lines(root, changes, fault):
    append(root, "train", line("train-20-0", 2, **changes))
    append(root, "train", line("train-20-0", 3, label="maybe"))
    message = refused(NLVR2(root))
    assert "train.json has 2 problems" in message
    assert "train.json:7: " in message
    assert fault in message
    assert "train.json:8: unknown label 'maybe'" in message


def test_one_list_instead_of_lines(root):
    records = [json.loads(text) for text in (root / "dev.json").read_text().splitlines()]
    (root / "dev.json").write_text(json.dumps(records))
    message = refused(NLVR2(root))
    assert "dev.json:1: a list, where an object was expected" in message
    assert "Each line must be one JSON object" in message


def test_photos_that_cannot_be_used(root):
    (root / "train" / "37" / "train-20-0-img1.png").unlink()
    (root / "test1" / "test1-0-0-img0.png").write_bytes(b"")
    message = refused(NLVR2(root))
    assert "2 of 14 images cannot be used" in message
    assert "train.json:5: " in message
    assert "train-20-0-img1.png cannot be read" in message
    splits = NLVR2(root, leave_out_bad=True).splits()
    assert len(splits.train.examples) == 4
    (root / "test1" / "test1-0-1-img0.png").unlink()
    message = refused(NLVR2(root, leave_out_bad=True))
    assert "Split test/test1 has no example left: 4 of its examples could be read" in message


def test_two_photos_of_one_name(root):
    photo(root, "train/5/train-20-0-img0.png", (40, 8))
    message = refused(NLVR2(root))
    assert "1 photos of the same name" in message
    assert "train/37/train-20-0-img0.png and train/5/train-20-0-img0.png" in message
