"""easy-VQA: lists of three read, unknown answers and pictures refused, and the real files."""

import json

import pytest
from PIL import Image

from mmattn.data.label_module import with_classes
from mmattn.data.labelled.easy_vqa import EasyVQA
from mmattn.data.labelled.splits import LabelledSource
from mmattn.errors import ConfigError, DataError

TRAIN = [
    [["what color is the shape?", "red", 0], ["is there a circle?", "yes", 0]],
    [["what color is the shape?", "blue", 1], ["is there a circle?", "no", 1]],
    [["what color is the shape?", "red", 2], ["is there a circle?", "no", 2]],
    [["what color is the shape?", "blue", 3], ["is there a circle?", "yes", 3]],
]
TEST = [["what color is the shape?", "red", 0], ["is there a  circle?", "no", 1]]


def write(root, split, rows):
    (root / split / "questions.json").write_text(json.dumps(rows))


@pytest.fixture
def root(tmp_path):
    for split, count in {"train": 4, "test": 2}.items():
        (tmp_path / split / "images").mkdir(parents=True)
        for i in range(count):
            size = (8 + i, 8 if split == "train" else 9)
            Image.new("RGB", size).save(tmp_path / split / "images" / f"{i}.png")
    write(tmp_path, "train", [row for rows in TRAIN for row in rows])
    write(tmp_path, "test", TEST)
    (tmp_path / "answers.txt").write_text("yes\nno\nred\nblue")
    return tmp_path


def source(root, **options):
    return EasyVQA(root, **({"val_fraction": 0.25} | options))


def refused(source):
    with pytest.raises(DataError) as caught:
        source.splits()
    return str(caught.value)


def test_the_official_files(root):
    read: LabelledSource = source(root)
    splits = read.splits()
    assert [len(part.examples) for part in (splits.train, splits.val)] == [6, 2]
    one, two = splits.test[""].examples
    assert (one.key, two.key) == ("test/0#0", "test/1#0")
    assert two.text == "is there a circle?"
    assert two.labels == {"answer": "no"}
    assert two.images == ("test/images/1.png",)
    assert two.place == "test/questions.json:[1]"
    assert splits.test[""].images(1)[0].shape == (3, 9, 9)
    assert with_classes(splits)[1]["answer"].names == ("yes", "no", "red", "blue")
    divided, *absent = splits.notes
    assert divided == (
        "The data come without such a split, so divided here with seed 0: 6 for train, 2 for val"
    )
    assert "Split test has no example of these answer classes: 2 (blue, yes)" in absent


def test_keys_are_numbered_picture_by_picture(root):
    splits = source(root).splits()
    keys = {e.key for part in (splits.train, splits.val) for e in part.examples}
    assert keys == {f"train/{i}#{n}" for i in range(4) for n in range(2)}


def test_oddities_are_told(root):
    (root / "answers.txt").write_text("yes\nno\n\nred\nyes\nblue\n")
    write(root, "test", [*TEST, [" ", "no", 0]])
    notes = source(root).splits().notes
    assert notes[:2] == (
        "answers.txt: repeated lines, left out: 1 (yes)",
        "test/questions.json: empty questions, left out: 1 ([2])",
    )


# ----------------------------------------------------------------------- refused


def test_missing_files(root, tmp_path):
    assert "github.com/vzhou842/easy-VQA" in refused(EasyVQA(tmp_path / "nowhere"))
    (root / "answers.txt").rename(root / "answer.txt")
    (root / "test" / "questions.json").unlink()
    message = refused(source(root))
    assert "answers.txt: answers (nearest: 'answer.txt')" in message
    assert "test/questions.json: test questions" in message
    with pytest.raises(ConfigError, match=r"val_fraction is 2\.0"):
        EasyVQA(root, val_fraction=2.0)


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"question": "x"}, "an object, where a list was expected"),
        (["is it?", "yes"], "2 values, where 3 were expected"),
        ([None, "yes", 0], "the question is null"),
        (["is it?", 1, 0], "the answer is an integer"),
        (["is it?", "yes", None], "the picture is null"),
        (["is it?", "yes", True], "the picture is true or false"),
        (["is it?", "yes", "../0"], "the picture is a text"),
        (["is it?", "yes", -1], "the number of the picture is -1"),
        (["is it?", "rad", 0], "the answer 'rad' is not in answers.txt (nearest: 'red')"),
        (["is it?", "", 0], "the answer '' is not in answers.txt"),
        (["\ud83d", "no", 0], "holds half a surrogate pair"),
    ],
)
def test_malformed_entries(root, row, fault):
    write(root, "test", [*TEST, row, 7])
    message = refused(source(root))
    assert "questions.json has 2 problems" in message
    assert "questions.json:[2]: " in message
    assert fault in message
    assert "questions.json:[3]: an integer, where a list was expected" in message


def test_a_file_of_another_shape(root):
    (root / "test" / "questions.json").write_text("{}")
    assert "questions.json: an object, where a list of [question, answer" in refused(source(root))
    (root / "test" / "questions.json").write_text('[["a", "yes", 0],\n ["b" "yes", 0]]')
    assert "questions.json:2: no JSON: Expecting ',' delimiter at column 7" in refused(source(root))


def test_too_few_answers(root):
    (root / "answers.txt").write_text("yes\n")
    assert "answers.txt has 1 answers, one a line, and two or more are" in refused(source(root))


def test_pictures_that_cannot_be_used(root):
    (root / "test" / "images" / "0.png").unlink()
    assert "test/questions.json:[0]: " in refused(source(root))
    splits = source(root, leave_out_bad=True).splits()
    assert [e.key for e in splits.test[""].examples] == ["test/1#0"]
    (root / "test" / "images" / "1.png").write_bytes(b"x")
    message = refused(source(root, leave_out_bad=True))
    assert "Split test has no example left: 2 of its examples could be read" in message


def test_nothing_to_train_on(root):
    write(root, "train", [])
    assert "Split train has no example left" in refused(source(root))


def test_the_real_data_set(data_root):
    root = data_root / "easy-vqa"
    if not root.is_dir():
        pytest.skip(f"needs {root}")
    splits = EasyVQA(root).splits()
    assert len(splits.train.examples) + len(splits.val.examples) == 38_575
    assert len(splits.test[""].examples) == 9_673
    assert len(splits.train) + len(splits.val) == 4_000
    assert len(splits.test[""]) == 1_000
    classes = with_classes(splits)[1]["answer"].names
    assert len(classes) == 13
    assert classes[:3] == ("circle", "green", "red")
    assert splits.test[""].images(0)[0].shape == (3, 64, 64)
    assert splits.test[""].examples[0].text == "what is the red shape?"
    assert len(splits.notes) == 1
