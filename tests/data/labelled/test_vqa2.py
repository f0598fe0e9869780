"""VQA v2.0: the official files read, answers scored, files that do not fit each other refused."""

import json

import pytest
from PIL import Image

from mmattn.data.label_module import with_classes
from mmattn.data.labelled.splits import LabelledSource
from mmattn.data.labelled.vqa2 import VQAv2
from mmattn.errors import ConfigError, DataError

QUESTIONS = "v2_OpenEnded_mscoco_{}_questions.json"
ANSWERS = "v2_mscoco_{}_annotations.json"
IMAGES = {"train2014": [9, 25, 30, 34, 581929], "val2014": [42, 73]}


def answered(number, image, answers):
    """An annotation as visualqa.org writes it."""
    told = [
        {"answer": answer, "answer_confidence": "yes", "answer_id": i}
        for i, answer in enumerate(answers, start=1)
    ]
    return {
        "question_type": "what",
        "multiple_choice_answer": answers[0] if answers else "",
        "answers": told,
        "image_id": image,
        "answer_type": "other",
        "question_id": number,
    }


def write(root, subtype, questions, annotations):
    head = {"info": {"version": "2.0"}, "license": {}, "data_subtype": subtype}
    head["data_type"] = "mscoco"
    document = head | {"task_type": "Open-Ended", "questions": questions}
    (root / QUESTIONS.format(subtype)).write_text(json.dumps(document))
    document = head | {"annotations": annotations}
    (root / ANSWERS.format(subtype)).write_text(json.dumps(document))


def rows(subtype):
    """Two questions an image, in the official numbering: the image's number, and three digits."""
    questions, annotations = [], []
    for image in IMAGES[subtype]:
        for i, text in enumerate(["What is  this?", "Is it red?"]):
            number = image * 1000 + i
            questions.append({"image_id": image, "question": text, "question_id": number})
            given = ["cat"] * 7 + ["Dog", "the dog", "2 cats"] if i == 0 else ["yes"] * 10
            annotations.append(answered(number, image, given))
    return questions, annotations


def build(root):
    for subtype, numbers in IMAGES.items():
        (root / subtype).mkdir(parents=True)
        for i, number in enumerate(numbers):
            name = f"COCO_{subtype}_{number:012d}.jpg"
            size = (8 + i, 8 if subtype == "train2014" else 9)
            Image.new("RGB", size).save(root / subtype / name)
        write(root, subtype, *rows(subtype))
    return root


@pytest.fixture
def root(tmp_path):
    return build(tmp_path / "vqa2")


def source(root, **options):
    return VQAv2(root, **({"val_fraction": 0.2} | options))


def keys(dataset):
    return {int(example.key) for example in dataset.examples}


def edit(root, file, change):
    path = root / file
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def refused(source):
    with pytest.raises(DataError) as caught:
        source.splits()
    return str(caught.value)


def test_the_official_files(root):
    read: LabelledSource = source(root)
    splits = read.splits()
    assert len(splits.train.examples) == 8
    assert len(splits.val.examples) == 2
    assert keys(splits.test[""]) == {42000, 42001, 73000, 73001}
    assert keys(splits.train).isdisjoint(keys(splits.val))
    first = splits.test[""].examples[0]
    assert first.text == "What is this?"
    assert first.images == ("val2014/COCO_val2014_000000000042.jpg",)
    assert first.labels == {"answer": {"cat": 1.0, "dog": 0.6, "2 cats": 0.3}}
    assert first.place == f"{QUESTIONS.format('val2014')}:questions[0]"
    assert splits.test[""].images(1)[0].shape == (3, 9, 9)
    assert splits.notes == (
        "The data come without such a split, so divided here with seed 0: 8 for train, 2 for val",
    )


def test_images_stay_whole_when_validation_is_held_out(root):
    splits = source(root, val_fraction=0.4, seed=3).splits()
    assert len(splits.val) == 2
    assert all(len(splits.val.group(i)) == 2 for i in range(2))
    assert keys(splits.val) == keys(source(root, val_fraction=0.4, seed=3).splits().val)
    with pytest.raises(ConfigError, match=r"val_fraction is 1\.0"):
        source(root, val_fraction=1.0)


def test_the_classes_are_the_answers_that_are_best_most_often(root):
    def unsure(document):
        document["annotations"][0] |= {"answers": answered(0, 0, ["x", "y"] * 5)["answers"]}

    edit(root, ANSWERS.format("train2014"), unsure)
    splits = source(root, most_common=2).splits()
    kept, classes = with_classes(splits)
    assert classes["answer"].names == ("cat", "yes")
    assert keys(splits.train) - keys(kept.train) == {9000} - keys(splits.val)
    everything = with_classes(source(root, most_common=None).splits())[1]
    assert {"cat", "yes", "dog", "2 cats"} <= set(everything["answer"].names)
    target = classes["answer"].target(splits.test[""].examples[0].labels["answer"])
    assert target.tolist() == [1.0, 0.0]


def test_images_may_lie_elsewhere(root, tmp_path):
    for subtype in IMAGES:
        (tmp_path / "coco").mkdir(exist_ok=True)
        (root / subtype).rename(tmp_path / "coco" / subtype)
    assert "train2014: images of train" in refused(source(root))
    splits = source(root, image_root=tmp_path / "coco").splits()
    assert splits.test[""].images(0)[0].shape == (3, 9, 8)
    message = refused(source(root, image_root=tmp_path / "nowhere"))
    assert "image_root=" in message


def test_questions_without_words_are_told(root):
    def blank(document):
        document["questions"][0]["question"] = " "

    def nothing(document):
        document["annotations"][3]["answers"] = answered(0, 0, ["the", "?"] * 5)["answers"]

    edit(root, QUESTIONS.format("val2014"), blank)
    edit(root, ANSWERS.format("val2014"), nothing)
    splits = source(root).splits()
    assert keys(splits.test[""]) == {42001, 73000}
    file = QUESTIONS.format("val2014")
    assert f"{file}: questions without a text, left out: 1 (42000)" in splits.notes
    assert f"{file}: questions without a word in any answer, left out: 1 (73001)" in splits.notes


# ----------------------------------------------------------------------- refused


def test_missing_files(root, tmp_path):
    assert "visualqa.org/download.html" in refused(VQAv2(tmp_path / "nowhere"))
    (root / ANSWERS.format("val2014")).unlink()
    message = refused(source(root))
    assert "v2_mscoco_val2014_annotations.json: answers of test" in message


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"question_id": "9000"}, "'question_id' is a text, where an integer was expected"),
        ({"question": None}, "'question' is null, where a text was expected"),
        ({"image_id": ...}, "no field 'image_id'"),
        ({"image_id": None}, "'image_id' is null"),
        ({"image_id": -1}, "the image_id -1, where 0 to 12 digits"),
        ({"question_id": 9001}, "the question_id 9001 again, first questions[1]"),
        ({"question": "\ud83d"}, "holds half a surrogate pair"),
    ],
)
def test_malformed_questions(root, changes, fault):
    def spoil(document):
        record = document["questions"][2] | changes
        document["questions"][2] = {k: v for k, v in record.items() if v is not ...}
        document["questions"][3] = "x"

    edit(root, QUESTIONS.format("train2014"), spoil)
    message = refused(source(root))
    assert "has 2 problems" in message
    assert f"{QUESTIONS.format('train2014')}:questions[2]: " in message
    assert fault in message
    assert "questions[3]: a text, where an object was expected" in message


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"answers": ...}, "no field 'answers'"),
        ({"answers": None}, "'answers' is null, where a list was expected"),
        ({"answers": []}, "0 answers, where 10 were expected"),
        ({"answers": ["yes"] * 10}, "answers[0]: a text, where an object was expected"),
        ({"answers": [{"answer": 2}] * 10}, "answers[0]: 'answer' is an integer, where a text"),
        ({"question_id": 9001}, "the question_id 9001 again"),
        ({"question_id": 7}, "there is no question with the question_id 7"),
        ({"image_id": 9}, "the image_id 9 of question 25000, which is about 25"),
    ],
)
def test_malformed_annotations(root, changes, fault):
    def spoil(document):
        record = document["annotations"][2] | changes
        document["annotations"][2] = {k: v for k, v in record.items() if v is not ...}

    edit(root, ANSWERS.format("train2014"), spoil)
    message = refused(source(root))
    assert f"{ANSWERS.format('train2014')}:annotations[2]: {fault}" in message


def test_a_question_without_an_annotation(root):
    edit(root, ANSWERS.format("val2014"), lambda document: document["annotations"].pop(1))
    message = refused(source(root))
    assert (
        f"{QUESTIONS.format('val2014')}:questions[1]: the question_id 42001 has no ann" in message
    )
    assert "test-dev and test-standard are not public" in message


def test_a_file_of_another_part_or_shape(root):
    text = (root / QUESTIONS.format("train2014")).read_text()
    (root / QUESTIONS.format("val2014")).write_text(text)
    assert "data_subtype is 'train2014', where 'val2014' was expected" in refused(source(root))
    (root / QUESTIONS.format("val2014")).write_text("[]")
    assert "a list, where an object was expected" in refused(source(root))
    (root / QUESTIONS.format("val2014")).write_text('{"data_subtype": "val2014"}')
    assert "no field 'questions'" in refused(source(root))


def test_a_file_that_is_cut_short(root):
    path = root / QUESTIONS.format("train2014")
    path.write_text(path.read_text().replace('"questions": [', '\n"questions":\n[ ')[:-9])
    message = refused(source(root))
    assert f"{path}:3: no JSON: " in message
    assert "at column " in message


def test_images_that_cannot_be_used(root):
    names = [f"train2014/COCO_train2014_{number:012d}.jpg" for number in IMAGES["train2014"][:2]]
    (root / names[0]).unlink()
    (root / names[1]).write_bytes(b"<html>")
    message = refused(source(root))
    assert "2 of 7 images cannot be used" in message
    assert f"{QUESTIONS.format('train2014')}:questions[0]: " in message
    assert "is not an image" in message
    splits = source(root, val_fraction=0.4, seed=1, leave_out_bad=True).splits()
    assert keys(splits.train) | keys(splits.val) == {
        number * 1000 + i for number in IMAGES["train2014"][2:] for i in range(2)
    }
    assert any("Images missing or damaged: 2" in note for note in splits.notes)


def test_nothing_to_train_on(root):
    write(root, "train2014", [], [])
    assert "Split train has no example left" in refused(source(root))
    write(root, "train2014", *rows("train2014"))
    write(root, "val2014", [], [])
    assert "Split test has no example left: 0 of its examples" in refused(source(root))
