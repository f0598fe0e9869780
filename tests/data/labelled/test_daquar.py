"""DAQUAR: pairs of lines, photos named in questions, the official split, and the real files."""

import pytest
from PIL import Image

from mmattn.data.label_module import with_classes
from mmattn.data.labelled.daquar import DAQUAR
from mmattn.data.labelled.splits import LabelledSource
from mmattn.errors import ConfigError, DataError

PAIRS = [
    ("what is on the bed in the image1 ?", "pillow, blanket"),
    ("how many chairs are there in the image1 ?", "3"),
    ("what is on the bed in the image2 ?", "pillow"),
    ("what is left of the door in the image3 ?", "table"),
    ("what is the colour of the image4 ?", "red"),
    ("what is on the desk in the image5 ?", "blanket, pillow, pillow"),
    ("what is on the floor in the image6 ?", "garbage_bin"),
]
LISTS = {"train": [1, 2, 3, 4], "test": [5, 6]}
WORDS = ["3", "blanket", "garbage_bin", "pillow", "red", "table"]


def build(root, suffix="jpg"):
    (root / "images").mkdir(parents=True)
    for i in range(1, 7):
        Image.new("RGB", (8 + i, 8)).save(root / "images" / f"image{i}.{suffix}")
    write(root, PAIRS)
    for split, numbers in LISTS.items():
        (root / f"{split}_images_list.txt").write_text("\n".join(f"image{i}" for i in numbers))
    (root / "answer_space.txt").write_text("\n".join(WORDS))
    return root


def write(root, pairs):
    """The official file has no line end after the last answer."""
    (root / "all_qa_pairs.txt").write_text("\n".join(line for pair in pairs for line in pair))


@pytest.fixture
def root(tmp_path):
    return build(tmp_path / "daquar")


def source(root, **options):
    return DAQUAR(root, **({"val_fraction": 0.25} | options))


def texts(root, *questions):
    """What questions about image6 are read as."""
    write(root, [*PAIRS, *((question, "red") for question in questions)])
    return [example.text for example in source(root).splits().test[""].examples[2:]]


def examples(splits):
    sets = (splits.train, splits.val, splits.test[""])
    return {example.key: example for part in sets for example in part.examples}


def refused(source):
    with pytest.raises(DataError) as caught:
        source.splits()
    return str(caught.value)


def test_pairs_and_the_official_split(root):
    read: LabelledSource = source(root)
    splits = read.splits()
    assert [e.key for e in splits.test[""].examples] == ["image5#0", "image6#0"]
    assert {e.key for part in (splits.train, splits.val) for e in part.examples} == {
        "image1#0",
        "image1#1",
        "image2#0",
        "image3#0",
        "image4#0",
    }
    assert len(splits.val) == 1
    second = examples(splits)["image1#1"]
    assert second.text == "how many chairs are there ?"
    assert second.labels == {"answer": "3"}
    assert second.images == ("images/image1.jpg",)
    assert second.place == "all_qa_pairs.txt:3"
    assert splits.test[""].images(1)[0].shape == (3, 8, 14)
    assert len(splits.notes) == 1
    assert splits.notes[0].startswith("The data come without such a split, so divided here")


def test_an_answer_is_the_set_of_its_words(root):
    labels = {key: e.labels["answer"] for key, e in examples(source(root).splits()).items()}
    assert labels["image1#0"] == labels["image5#0"] == "blanket, pillow"
    first = examples(source(root, first_only=True).splits())
    assert first["image1#0"].labels == {"answer": "pillow"}
    assert first["image5#0"].labels == {"answer": "blanket"}


def test_answers_outside_the_classes_are_kept(root):
    splits, classes = with_classes(source(root).splits())
    assert "garbage_bin" not in classes["answer"].names
    assert len(splits.test[""].examples) == 2


def test_no_question_tells_the_name_of_its_photo(root):
    assert texts(
        root,
        "what is red in this image6 ?",
        "what is red in image6 ?",
        "what is red in the image6?",
        "what is red in the image6",
        "what is the colour of the image6 ?",
        "what is on the table image6 ?",
        "what is left of the image6 in the image6 ?",
        "what is the table in the image6 on the floor in the image6 ?",
    ) == [
        "what is red ?",
        "what is red ?",
        "what is red?",
        "what is red",
        "what is the colour of the image ?",
        "what is on the table image ?",
        "what is left of the image ?",
        "what is the table in the image on the floor ?",
    ]


def test_photos_of_either_kind(tmp_path):
    splits = source(build(tmp_path, "png")).splits()
    assert splits.test[""].examples[0].images == ("images/image5.png",)
    Image.new("RGB", (30, 8)).save(tmp_path / "images" / "image5.jpg")
    assert source(tmp_path).splits().test[""].examples[0].images == ("images/image5.jpg",)


def test_what_cannot_be_used_is_told(root):
    Image.new("RGB", (30, 8)).save(root / "images" / "image7.jpg")
    write(root, [*PAIRS, ("what is red in the image7 ?", "table")])
    (root / "train_images_list.txt").write_text("image1\nimage2\nimage2\n\nimage3\nimage4\nimage8")
    splits = source(root).splits()
    assert splits.notes[:3] == (
        "train_images_list.txt: repeated lines, left out: 1 (image2)",
        "Photos with questions in no split list, left out: 1 (image7)",
        "Listed photos without a question, left out: 1 (image8)",
    )
    assert len(examples(splits)) == 7


def test_the_list_of_answers_may_be_absent(root):
    (root / "answer_space.txt").unlink()
    assert len(examples(source(root).splits())) == 7


# ----------------------------------------------------------------------- refused


def test_missing_files(tmp_path):
    assert "Visual Turing Challenge" in refused(DAQUAR(tmp_path / "nowhere"))
    (tmp_path / "all_qa_pair.txt").write_text("x")
    message = refused(DAQUAR(tmp_path))
    assert "all_qa_pairs.txt: questions and answers (nearest: 'all_qa_pair.txt')" in message
    assert "test_images_list.txt: names of the test photos" in message
    assert "images: photos" in message
    with pytest.raises(ConfigError, match=r"val_fraction is -0\.5"):
        DAQUAR(tmp_path, val_fraction=-0.5)


@pytest.mark.parametrize(
    ("pair", "line", "fault"),
    [
        (("what is red ?", "table"), 15, "the question names no photo: 'what is red ?'"),
        (("what is in the image5 in the image6 ?", "red"), 15, "the question names image5 and im"),
        (("in the image6 ?", "red"), None, None),
        ((" in the image6", "red"), 15, "the question names a photo and asks nothing"),
        (("what is in the image6 ?", " "), 16, "the question has no answer: 'what is in"),
        (("what is in the image6 ?", "what is in the image5 ?"), 16, "a question where an answer"),
        (("what is in the image6 ?", "red, "), 16, "a comma without a word beside it: 'red, '"),
        (("what is in the image6 ?", "red, tabel"), 16, "'tabel' is not in answer_space.txt (near"),
    ],
)
def test_lines_that_are_no_pair(root, pair, line, fault):
    write(root, [*PAIRS, pair, ("", "")])
    if fault is None:
        assert len(examples(source(root).splits())) == 8
        return
    write(root, [*PAIRS, pair, ("broken", "too")])
    message = refused(source(root))
    assert "has 2 problems" in message
    assert f"all_qa_pairs.txt:{line}: {fault}" in message
    assert "all_qa_pairs.txt:17: the question names no photo: 'broken'" in message


def test_a_question_without_an_answer_at_the_end(root):
    path = root / "all_qa_pairs.txt"
    path.write_text(path.read_text() + "\nwhat is red in the image6 ?\n\n")
    assert "all_qa_pairs.txt:16: the question has no answer" in refused(source(root))


def test_a_line_too_few_is_told_from_the_place_where_it_lacks(root):
    lines = (root / "all_qa_pairs.txt").read_text().split("\n")
    del lines[5]
    (root / "all_qa_pairs.txt").write_text("\n".join(lines))
    message = refused(source(root))
    first = next(line for line in message.split("\n") if "all_qa_pairs.txt:" in line)
    assert "all_qa_pairs.txt:6: a question where an answer was expected" in first
    assert "shifts all that follow" in message


def test_split_lists_that_contradict_each_other(root):
    (root / "test_images_list.txt").write_text("image5\nimage6\nimage3")
    message = refused(source(root))
    assert "test_images_list.txt:3: image3 is also in train_images_list.txt:3" in message


@pytest.mark.parametrize("name", ["image5.jpg", "../image5", "5", "image"])
def test_what_is_no_name_of_a_photo(root, name):
    (root / "test_images_list.txt").write_text(f"image6\n{name}")
    assert f"test_images_list.txt:2: {name!r} is no name of a photo" in refused(source(root))


def test_photos_that_cannot_be_used(root):
    (root / "images" / "image5.jpg").unlink()
    message = refused(source(root))
    assert "all_qa_pairs.txt:11: " in message
    assert "image5.jpg cannot be read" in message
    splits = source(root, leave_out_bad=True).splits()
    assert [e.key for e in splits.test[""].examples] == ["image6#0"]
    (root / "images" / "image6.jpg").write_bytes(b"x")
    message = refused(source(root, leave_out_bad=True))
    assert "Split test has no example left: 2 of its examples could be read" in message


def test_nothing_to_train_on(root):
    write(root, PAIRS[5:])
    message = refused(source(root))
    assert "Split train has no example left" in message
    assert "Listed photos without a question, left out: 4 (image1, image2, image3, ...)" in message


# ------------------------------------------------------------------ the real files


def test_the_real_data_set(data_root):
    root = data_root / "daquar"
    if not root.is_dir():
        pytest.skip(f"needs {root}")
    splits = DAQUAR(root).splits()
    every = examples(splits)
    assert len(every) == 12_468
    assert len(splits.train.examples) + len(splits.val.examples) == 6_795
    assert len(splits.test[""].examples) == 5_673
    # 795 and 654 are listed, and one of each has no question
    assert len(splits.train) + len(splits.val) == 794
    assert len(splits.test[""]) == 653
    assert "Listed photos without a question, left out: 2 (image366, image190)" in splits.notes
    assert not any("Leak" in note for note in splits.notes)
    assert not any("image1" in example.text for example in every.values())
    assert every["image1#3"].labels == {"answer": "3"}
    assert every["image1#2"].text == "what is between the the two white and black garbage bins ?"
    assert splits.test[""].images(0)[0].shape[0] == 3


@pytest.mark.parametrize(("first_only", "classes", "unseen"), [(False, 917, 518), (True, 473, 125)])
def test_the_real_answers(data_root, first_only, classes, unseen):
    if not (data_root / "daquar").is_dir():
        pytest.skip(f"needs {data_root / 'daquar'}")
    splits = DAQUAR(data_root / "daquar", first_only).splits()
    shown = {e.labels["answer"] for s in (splits.train, splits.val) for e in s.examples}
    assert len(shown) == classes
    assert sum(e.labels["answer"] not in shown for e in splits.test[""].examples) == unseen
