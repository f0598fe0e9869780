"""Hateful Memes: both releases read, memes without labels told, faults refused with their line."""

import json

import pytest
from PIL import Image

from mmattn.data.label_module import with_classes
from mmattn.data.labelled.hateful_memes import HatefulMemes
from mmattn.data.labelled.splits import LabelledSource
from mmattn.errors import ConfigError, DataError

SECOND = {
    "train": range(1, 7),
    "dev_seen": range(11, 15),
    "dev_unseen": range(13, 17),  # shares two with dev_seen, as the real ones do
    "test_seen": range(21, 25),
    "test_unseen": range(31, 35),
}
FIRST = {"train": range(1, 7), "dev": range(11, 15), "test": range(21, 25)}


def meme(root, number, **changes):
    """Return the line of a meme like the real ones: the id a number, the file five digits."""
    name = f"img/{number:05d}.png"
    (root / "img").mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8 + number, 8)).save(root / name)
    record = {"id": number, "img": name, "label": number % 2, "text": f"its  their {number}"}
    record |= changes
    return json.dumps({key: value for key, value in record.items() if value is not ...}) + "\n"


def build(root, files):
    for name, numbers in files.items():
        lines = "".join(meme(root, number) for number in numbers)
        (root / f"{name}.jsonl").write_text(lines)
    return root


@pytest.fixture
def root(tmp_path):
    return build(tmp_path / "hateful_memes", SECOND)


def keys(dataset):
    return [int(example.key) for example in dataset.examples]


def append(root, file, line):
    path = root / f"{file}.jsonl"
    path.write_text(path.read_text() + line)


def refused(source):
    with pytest.raises(DataError) as caught:
        source.splits()
    return str(caught.value)


def test_the_second_release(root):
    source: LabelledSource = HatefulMemes(root)
    splits = source.splits()
    assert splits.notes == ()
    assert keys(splits.train) == list(SECOND["train"])
    assert keys(splits.val) == list(SECOND["dev_seen"])
    assert {name: keys(part) for name, part in splits.test.items()} == {
        "seen": list(SECOND["test_seen"]),
        "unseen": list(SECOND["test_unseen"]),
    }
    one, two = splits.train.examples[:2]
    assert (one.labels, two.labels) == ({"hateful": "hateful"}, {"hateful": "not hateful"})
    assert one.text == "its their 1"
    assert one.images == ("img/00001.png",)
    assert one.place == "train.jsonl:1"
    assert splits.train.images(1)[0].shape == (3, 8, 10)
    assert with_classes(splits)[1]["hateful"].names == ("not hateful", "hateful")


def test_the_other_validation_set(root):
    assert keys(HatefulMemes(root, val="dev_unseen").splits().val) == list(SECOND["dev_unseen"])
    with pytest.raises(ConfigError, match="give one of dev_seen, dev_unseen"):
        HatefulMemes(root, val="dev")


def test_the_first_release(tmp_path):
    build(tmp_path, FIRST)
    lines = (meme(tmp_path, number, label=...) for number in FIRST["test"])
    (tmp_path / "test.jsonl").write_text("".join(lines))
    splits = HatefulMemes(tmp_path).splits()
    assert keys(splits.val) == list(FIRST["dev"])
    assert splits.test == {}
    assert splits.notes == (
        "test.jsonl: memes without a label, left out: 4 (line 1, line 2, line 3, ...)",
        "There is no test set: nothing is tested after training",
    )


def test_ids_may_be_texts(root):
    append(root, "train", meme(root, 42, id="00042"))
    assert HatefulMemes(root).splits().train.examples[-1].key == "00042"


def test_a_test_set_with_some_labels(root):
    append(root, "test_seen", meme(root, 29, label=None))
    splits = HatefulMemes(root).splits()
    assert len(splits.test["seen"]) == 4
    assert splits.notes == ("test_seen.jsonl: memes without a label, left out: 1 (line 5)",)


def test_a_meme_without_a_text_is_kept_as_a_picture(root):
    append(root, "train", meme(root, 9, text=" "))
    splits = HatefulMemes(root).splits()
    assert splits.train.examples[-1].text is None
    assert splits.notes == ("train.jsonl: memes without a text, kept as pictures: 1 (9)",)


def test_memes_that_occur_twice_are_told(root):
    data = (root / "img" / "00001.png").read_bytes()
    (root / "img" / "00012.png").write_bytes(data)
    append(root, "train", meme(root, 8, img="img/00002.png", text="its their 2", label=1))
    notes = HatefulMemes(root).splits().notes
    assert "The same input more than once in a split, kept: 1 (2 (train) = 8 (train))" in notes
    assert "The same input with different labels, kept: 1 (2 (train) = 8 (train))" in notes
    assert any(note.startswith("Leak: byte-identical photos") for note in notes)


# ----------------------------------------------------------------------- refused


def test_missing_files(tmp_path):
    assert "hatefulmemeschallenge.com" in refused(HatefulMemes(tmp_path / "nowhere"))
    (tmp_path / "dev_sen.jsonl").write_text("x")
    message = refused(HatefulMemes(tmp_path))
    assert "train.jsonl: training" in message
    assert "dev_seen.jsonl: validation (nearest: 'dev_sen.jsonl')" in message
    assert "img: pictures" in message


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"id": ...}, "no field 'id'"),
        ({"id": 1}, "the id 1 again, first train.jsonl:1"),
        ({"id": None}, "'id' is null, where an integer or a text was expected"),
        ({"img": 7}, "'img' is an integer, where a text was expected"),
        ({"text": ["x"]}, "'text' is a list, where a text was expected"),
        ({"label": ...}, "no field 'label'"),
        ({"label": 2}, "the label 2, where 0 (not hateful) or 1 (hateful) was expected"),
        ({"label": "1"}, "the label '1', where"),
        ({"label": True}, "the label True, where"),
        ({"label": [1]}, "the label [1], where"),
    ],
)
def test_malformed_lines(root, changes, fault):
    append(root, "train", meme(root, 99, **changes))
    append(root, "train", "{\n")
    message = refused(HatefulMemes(root))
    assert "train.jsonl:8: no JSON" in message
    path = root / "train.jsonl"
    path.write_text(path.read_text().removesuffix("{\n"))
    assert f"train.jsonl:7: {fault}" in refused(HatefulMemes(root))


@pytest.mark.parametrize("file", ["dev_seen", "test_unseen"])
def test_a_meme_in_two_splits(root, file):
    append(root, file, meme(root, 3))
    message = refused(HatefulMemes(root))
    assert f"{file}.jsonl:5: the id 3 is also at train.jsonl:3" in message


def test_half_a_surrogate_pair(root):
    append(root, "train", meme(root, 9, text="\ud83d"))
    message = refused(HatefulMemes(root))
    assert "train.jsonl:7: The caption '\\ud83d' holds half a surrogate pair" in message


def test_pictures_that_cannot_be_used(root):
    (root / "img" / "00002.png").unlink()
    append(root, "dev_seen", meme(root, 18, img="../secret.png"))
    assert "dev_seen.jsonl:5: The file name '../secret.png' holds '..'" in refused(
        HatefulMemes(root, leave_out_bad=True)
    )
    path = root / "dev_seen.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    assert "train.jsonl:2: " in refused(HatefulMemes(root))
    assert keys(HatefulMemes(root, leave_out_bad=True).splits().train) == [1, 3, 4, 5, 6]


def test_nothing_left_after_filtering(root):
    for number in SECOND["dev_seen"]:
        (root / "img" / f"{number:05d}.png").unlink()
    message = refused(HatefulMemes(root, leave_out_bad=True))
    assert (
        "Split val has no example left: 4 of its examples could be read, 0 can be used" in message
    )


def test_an_empty_training_file(root):
    (root / "train.jsonl").write_text("\n")
    message = refused(HatefulMemes(root))
    assert "Split train has no example left: 0 of its examples" in message
