"""Manifests: every kind of label in every format, splits however they come, all faults named."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmattn.data.label_module import with_classes
from mmattn.data.labelled.manifest import Manifest
from mmattn.data.labelled.splits import LabelledSource
from mmattn.data.problems import PartlyReadError
from mmattn.errors import ConfigError, DataError

COLUMNS = {"image": "path", "text": "question", "split": "split"}
ANSWER = {"answer": {"column": "answer"}}
HEADER = "path,question,split,answer"
ROWS = [
    "a.png,What is it?,train,dog",
    "b.png,What is it?,train,cat",
    "c.png,And this?,val,dog",
    "d.png,Which one?,test,cat",
]


def pictures(root, names="abcdefgh"):
    for i, name in enumerate(names):
        Image.new("RGB", (8 + i, 8)).save(root / f"{name}.png")
    return root


def table(root, *rows, header=HEADER, file="data.csv"):
    (root / file).write_text("\n".join([header, *rows]) + "\n")
    return root


def json_lines(root, *records, file="data.jsonl"):
    (root / file).write_text("".join(json.dumps(record) + "\n" for record in records))
    return root


def manifest(root, file="data.csv", columns=COLUMNS, heads=ANSWER, **options):
    return Manifest(root, columns, heads, file=file, **options)


def refused(source, error=DataError):
    with pytest.raises(error) as caught:
        source.splits()
    return str(caught.value)


def labels(dataset, head="answer"):
    return [example.labels.get(head) for example in dataset.examples]


@pytest.fixture
def root(tmp_path):
    return table(pictures(tmp_path), *ROWS)


def test_a_faultless_table(root):
    source: LabelledSource = manifest(root)
    splits = source.splits()
    assert splits.notes == (
        "Split test has no example of these answer classes: 1 (dog)",
        "Split val has no example of these answer classes: 1 (cat)",
    )
    assert [labels(part) for part in (splits.train, splits.val, splits.test[""])] == [
        ["dog", "cat"],
        ["dog"],
        ["cat"],
    ]
    example = splits.train.examples[0]
    assert example.images == ("a.png",)
    assert example.text == "What is it?"
    assert (example.key, example.place) == ("data.csv:2", "data.csv:2")
    assert splits.train.images(1)[0].shape == (3, 8, 9)
    assert splits.heads["answer"].kind == "single"
    assert with_classes(splits)[1]["answer"].names == ("cat", "dog")


# ------------------------------------------------------------------------ formats


@pytest.mark.fault("F15")
def test_windows_files_and_quotation_marks(root):
    text = "\ufeff" + "\r\n".join([HEADER, *ROWS, 'e.png,"say ""hi"", please",train,dog', "", ""])
    (root / "data.csv").write_bytes(text.encode())
    example = manifest(root).splits().train.examples[2]
    assert example.text == 'say "hi", please'
    assert example.place == "data.csv:6"


def test_a_cell_of_several_lines_counts_from_its_first(root):
    table(root, *ROWS, 'e.png,"two\nlines",train,dog', "f.png,x,train,cat")
    examples = manifest(root).splits().train.examples
    assert [(e.place, e.text) for e in examples[2:]] == [
        ("data.csv:6", "two lines"),
        ("data.csv:8", "x"),
    ]


def test_tabs(root):
    rows = [line.replace(",", "\t") for line in (HEADER, *ROWS)]
    table(root, *rows[1:], header=rows[0], file="data.tsv")
    assert labels(manifest(root, "data.tsv").splits().train) == ["dog", "cat"]


def test_quotation_marks_that_are_text(root):
    rows = [*ROWS, 'e.png,"unclosed,train,dog']
    rows = [line.replace(",", "\t") for line in (HEADER, *rows)]
    table(root, *rows[1:], header=rows[0], file="data.tsv")
    assert "data.tsv:6: not in the format" in refused(manifest(root, "data.tsv"))
    splits = manifest(root, "data.tsv", quotes=False).splits()
    assert splits.train.examples[2].text == '"unclosed'


def test_json_lines(root):
    rows = [dict(zip(HEADER.split(","), row.split(","), strict=True)) for row in ROWS]
    json_lines(root, *rows)
    splits = manifest(root, "data.jsonl").splits()
    assert labels(splits.train) == ["dog", "cat"]
    assert splits.train.examples[1].place == "data.jsonl:2"


@pytest.mark.fault("F16")
def test_another_encoding(root):
    path = root / "data.csv"
    path.write_bytes(path.read_text().replace("Which", "Où").encode("latin-1"))
    assert "data.csv:5: byte offset" in refused(manifest(root))
    assert manifest(root, encoding="latin-1").splits().test[""].examples[0].text == "Où one?"


# ------------------------------------------------------------------------- inputs


def test_images_or_text_may_lack(root):
    table(root, *ROWS, "e.png,,train,dog", ",Only text,train,cat")
    image, text = manifest(root).splits().train.examples[2:]
    assert (image.images, image.text) == (("e.png",), None)
    assert (text.images, text.text) == ((), "Only text")


def test_images_alone_and_texts_alone(root):
    heads = ANSWER
    splits = manifest(root, columns={"image": "path", "split": "split"}, heads=heads).splits()
    assert splits.train.examples[0].text is None
    splits = manifest(root, columns={"text": "question", "split": "split"}, heads=heads).splits()
    assert splits.train.examples[0].images == ()


def test_two_images(root):
    rows = ["a.png,b.png,x,train,yes", "c.png,d.png,y,train,no", "e.png,f.png,z,val,no"]
    table(root, *rows, header="left,right,question,split,answer")
    columns = {**COLUMNS, "image": ["left", "right"]}
    assert manifest(root, columns=columns).splits().train.examples[1].images == ("c.png", "d.png")
    table(root, *rows, "a.png,,x,train,yes", header="left,right,question,split,answer")
    message = refused(manifest(root, columns=columns))
    assert "data.csv:5: one image of several: nothing in right" in message


def test_a_list_of_images_in_json(root):
    one = {"path": ["a.png", "b.png"], "question": "x", "split": "train", "answer": "yes"}
    json_lines(root, one, {**one, "path": ["c.png"], "answer": "no"}, {**one, "split": "val"})
    first, second = manifest(root, "data.jsonl").splits().train.examples
    assert (first.images, second.images) == (("a.png", "b.png"), ("c.png",))


def test_keys(root):
    header = "id," + HEADER
    rows = [f"k{i},{row}" for i, row in enumerate(ROWS)]
    table(root, *rows, header=header)
    columns = {**COLUMNS, "key": "id"}
    splits = manifest(root, columns=columns).splits()
    assert [example.key for example in splits.train.examples] == ["k0", "k1"]
    table(root, *rows, "k1,e.png,x,train,dog", ",f.png,x,train,dog", header=header)
    assert "data.csv:7: no key in the column 'id'" in refused(manifest(root, columns=columns))
    table(root, *rows, "k3,e.png,x,train,dog", header=header)
    message = refused(manifest(root, columns=columns))
    assert "data.csv:6: the key 'k3' again, first data.csv:5" in message


# ------------------------------------------------------------------------- labels


def single(root, cells, kind, is_json=False, **head):
    """Return the training labels of a text set whose cells are these."""
    columns, heads = {"text": "t", "split": "s"}, {"h": {"column": "h", "kind": kind, **head}}
    rows = [{"t": f"text {i}", "s": "train", "h": cell} for i, cell in enumerate(cells)]
    rows.append({"t": "held out", "s": "val", "h": cells[0]})
    if is_json:
        source = manifest(json_lines(root, *rows), "data.jsonl", columns, heads)
    else:
        lines = [f"{row['t']},{row['s']},{row['h']}" for row in rows]
        source = manifest(table(root, *lines, header="t,s,h"), columns=columns, heads=heads)
    return labels(source.splits().train, "h")


def fault(root, cells, kind, is_json=False, **head):
    with pytest.raises(DataError) as caught:
        single(root, cells, kind, is_json, **head)
    return str(caught.value)


def test_single_labels(tmp_path):
    assert single(tmp_path, ["yes", " no  way ", "7"], "single") == ["yes", "no way", "7"]
    assert single(tmp_path, ["x", 7, True, "x"], "single", True) == ["x", "7", "true", "x"]


def test_multiple_labels(tmp_path):
    assert single(tmp_path, ["a|b", "b", "|"], "multi") == [("a", "b"), ("b",), ()]
    assert single(tmp_path, ["a;b|c", "b"], "multi", separator=";") == [("a", "b|c"), ("b",)]
    cells = [["a", "b"], [], ["7", 8], "c"]
    assert single(tmp_path, cells, "multi", True, separator="|") == [
        ("a", "b"),
        (),
        ("7", "8"),
        ("c",),
    ]


def test_soft_labels(tmp_path):
    assert single(tmp_path, ["yes:0.9|no:0.3", "10:30:1"], "soft") == [
        {"yes": 0.9, "no": 0.3},
        {"10:30": 1.0},
    ]
    cells = [{"yes": 0.9, "no": 0}, {"no": 1}]
    assert single(tmp_path, cells, "soft", True) == [{"yes": 0.9}, {"no": 1.0}]


def test_an_answer_that_never_scores_most_is_a_class(tmp_path):
    rows = ["a,train,yes:0.9|no:0.3", "b,train,yes:1|maybe:0.5|never:0", "c,val,no:0.6|never:0"]
    source = manifest(
        table(tmp_path, *rows, header="t,s,h"),
        columns={"text": "t", "split": "s"},
        heads={"h": {"column": "h", "kind": "soft"}},
    )
    splits = source.splits()
    assert with_classes(splits)[1]["h"].names == ("maybe", "no", "yes")
    assert labels(splits.val, "h") == [{"no": 0.6}]


HEAD_OF_WORDS = {"tags": {"column": "tags", "kind": "words"}}


def test_labels_of_words(root):
    columns = {"text": "words", "split": "split", "image": "image"}
    rows = [
        {"words": ["Ann", "in", "New York"], "tags": ["PER", "O", "LOC"], "split": "train"},
        {"words": "two words", "tags": "O O", "split": "train", "image": "a.png"},
        {"words": ["Ann"], "tags": ["PER"], "split": "val"},
    ]
    json_lines(root, *rows)
    splits = manifest(root, "data.jsonl", columns, HEAD_OF_WORDS).splits()
    one, two = splits.train.examples
    assert one.text == ("Ann", "in", "New York")
    assert one.labels == {"tags": ("PER", "O", "LOC")}
    assert (two.text, two.labels) == (("two", "words"), {"tags": ("O", "O")})
    assert with_classes(splits)[1]["tags"].names == ("LOC", "O", "PER")


def test_no_words_at_all(root):
    columns = {"text": "words", "split": "split", "image": "image"}
    row = {"words": ["Ann"], "tags": ["PER"], "split": "train", "image": None}
    rows = [row, {**row, "split": "val"}]
    json_lines(root, *rows, {"words": [], "tags": [], "split": "train", "image": "a.png"})
    source = manifest(root, "data.jsonl", columns, HEAD_OF_WORDS)
    assert "data.jsonl: rows without any label, left out: 1 (line 3)" in source.splits().notes
    json_lines(root, *rows, {"words": [], "tags": [], "split": "train"})
    assert "data.jsonl:3: neither an image nor a text" in refused(source)
    json_lines(root, *rows, {**row, "tags": []})
    assert "data.jsonl: rows without any label, left out: 1 (line 3)" in source.splits().notes


def test_words_and_labels_of_unequal_number(root):
    table(root, "Ann in York,PER O,train", "x,O,val", header="words,tags,split")
    source = manifest(root, columns={"text": "words", "split": "split"}, heads=HEAD_OF_WORDS)
    assert "data.csv:2: 3 words in 'words' and 2 labels in 'tags'" in refused(source)
    table(root, ",PER O,train,a.png", "x,O,val,", header="words,tags,split,image")
    columns = {"text": "words", "split": "split", "image": "image"}
    source = manifest(root, columns=columns, heads=HEAD_OF_WORDS)
    assert "data.csv:2: 0 words in 'words' and 2 labels in 'tags'" in refused(source)


def test_a_head_without_a_label_for_some_rows(root):
    heads = {"answer": {"column": "answer"}, "tags": {"column": "tags", "kind": "multi"}}
    rows = ["a.png,x,train,dog,", "b.png,x,train,cat,t|u", "c.png,x,val,,t", "d.png,x,train, ,"]
    table(root, *rows, header=HEADER + ",tags")
    splits = manifest(root, heads=heads).splits()
    assert [example.labels for example in splits.train.examples] == [
        {"answer": "dog"},
        {"answer": "cat", "tags": ("t", "u")},
    ]
    assert splits.val.examples[0].labels == {"tags": ("t",)}
    assert "data.csv: rows without any label, left out: 1 (line 5)" in splits.notes


def test_absent_and_null_are_missing_in_json(root):
    row = {"path": "a.png", "question": "x", "split": "train", "answer": "dog"}
    rows = [row, {**row, "path": None, "answer": "cat"}, {**row, "split": "val"}]
    rows.append({"path": "b.png", "split": "train", "answer": None})
    splits = manifest(json_lines(root, *rows), "data.jsonl").splits()
    assert splits.train.examples[1].images == ()
    assert "data.jsonl: rows without any label, left out: 1 (line 4)" in splits.notes


@pytest.mark.parametrize(
    ("kind", "cells", "told"),
    [
        ("single", [["a", "b"]], "a list of 2 labels for a single-label head: set kind=multi"),
        ("single", [{"a": 1}], "1 labels with scores for a single-label head: set kind=soft"),
        ("single", [0.5], "0.5, where a name was expected"),
        ("single", ["\u200b"], "an empty name"),
        ("single", ["\ud83d"], "holds half a surrogate pair"),
        ("multi", ["a|b"], "the text 'a|b', where JSON has a list: give one, or set separator"),
        ("multi", [{"a": 1}], "1 labels with scores for a multi-label head: set kind=soft"),
        ("multi", [["a", "b", "a"]], "the label 'a' 2 times"),
        ("multi", [["a", ""]], "an empty name"),
        ("multi", [["a", ["b"]]], "a list of 1, where a name was expected"),
        ("multi", [["a", None]], "None, where a name was expected"),
        ("soft", [["a"]], "a list of 1, where labels with scores were expected"),
        ("soft", [{"a": 1.5}], "the score of 'a' is 1.5: give 0 to 1"),
        ("soft", [{"a": -0.1}], "the score of 'a' is -0.1"),
        ("soft", [{"a": True}], "the score of 'a' is True"),
        ("soft", [{"a": "much"}], "the score of 'a' is 'much'"),
        ("soft", [{"a": None}], "the score of 'a' is None"),
        ("soft", [{"a": 1, " a": 1}], "the label 'a' 2 times"),
        ("words", [{"a": 1}], "an object of 1, where a list of labels was expected"),
        ("words", [3], "3, where a list of labels was expected"),
    ],
)
def test_json_labels_of_another_type(tmp_path, kind, cells, told):
    message = fault(tmp_path, cells, kind, is_json=True)
    assert "data.jsonl:1: h: " in message
    assert told in message
    assert "data.jsonl has 2 problems" in message  # the held-out row is the same


@pytest.mark.parametrize(
    ("kind", "cell", "told"),
    [
        ("multi", "a||b", "an empty name"),
        ("multi", "a|b|a", "the label 'a' 2 times"),
        ("soft", "yes", "'yes' has no score: write NAME:SCORE"),
        ("soft", "yes:2", "the score of 'yes' is '2': give 0 to 1"),
        ("soft", "yes:nan", "the score of 'yes' is 'nan'"),
        ("soft", ":1", "an empty name"),
    ],
)
def test_text_labels_that_cannot_be_read(tmp_path, kind, cell, told):
    assert f"data.csv:2: h: {told}" in fault(tmp_path, [cell], kind)


@pytest.mark.parametrize("mark", ["|", ";"])
def test_several_labels_for_a_single_label_head(tmp_path, mark):
    cells = ["a", "b", f"a{mark}b", f"a{mark}c"]  # "c" is no label, so the last one may be a name
    message = fault(tmp_path, cells, "single")
    assert f"data.csv:4: h: several labels, 'a{mark}b', for the single-label head 'h'" in message
    assert "data.csv has 1 problem:" in message
    classes = ["a", "b", f"a{mark}b", f"a{mark}c"]
    assert single(tmp_path, cells, "single", classes=classes) == cells


def test_an_unknown_label_and_a_class_without_examples(root):
    heads = {"answer": {"column": "answer", "classes": ["dog", "cat"]}}
    table(root, *ROWS, "e.png,x,train,dgo", "f.png,x,val,bird")
    message = refused(manifest(root, heads=heads))
    assert "data.csv:6: answer is 'dgo'" in message
    assert "did you mean 'dog'?" in message
    table(root, *ROWS)
    heads = {"answer": {"column": "answer", "classes": ["dog", "cat", "bird"]}}
    message = refused(manifest(root, heads=heads))
    assert "1 of 3 classes have no training example, first 'bird'" in message


def test_a_label_that_training_lacks(root):
    table(root, *ROWS, "e.png,x,val,bird")
    assert "data.csv:6: answer is 'bird'" in refused(manifest(root))
    heads = {"answer": {"column": "answer", "open": True}}
    assert labels(manifest(root, heads=heads).splits().val) == ["dog", "bird"]


def test_classes_that_are_numbers(root):
    table(root, "a.png,x,train,0", "b.png,x,train,1", "c.png,x,val,1")
    heads = {"answer": {"column": "answer", "classes": [1, 0]}}
    splits = manifest(root, heads=heads).splits()
    assert splits.heads["answer"].classes == ("1", "0")
    assert labels(splits.train) == ["0", "1"]


def test_the_most_frequent_answers(root):
    heads = {"answer": {"column": "answer", "most_common": 1, "open": True}}
    table(root, *ROWS, "e.png,x,train,dog")
    splits = manifest(root, heads=heads).splits()
    assert splits.heads["answer"].most_common == 1
    assert with_classes(splits)[1]["answer"].names == ("dog",)


# ------------------------------------------------------------------------- splits


@pytest.mark.parametrize("val", ["val", "valid", "validation", "dev", "Dev"])
def test_names_of_splits(root, val):
    rows = [row.replace(",val,", f",{val},").replace(",train,", ",TRAIN,") for row in ROWS]
    assert len(manifest(table(root, *rows)).splits().val) == 1


@pytest.mark.parametrize("name", ["test_seen", "test/seen", "test-seen"])
def test_several_test_sets(root, name):
    table(root, *ROWS, f"e.png,x,{name},dog")
    assert {name: len(part) for name, part in manifest(root).splits().test.items()} == {
        "": 1,
        "seen": 1,
    }


@pytest.mark.parametrize(("cell", "hint"), [("tset", " (nearest: 'test')"), ("3", ""), ("", "")])
def test_unknown_splits(root, cell, hint):
    table(root, *ROWS, f"e.png,x,{cell},dog")
    assert f"data.csv:6: split: {cell!r} is no split{hint}\n" in refused(manifest(root))


def test_validation_is_held_out_where_no_row_says_so(root):
    rows = [f"{name}.png,x {i},train,{'cd'[i % 2]}" for i, name in enumerate("abcdefgh")]
    table(root, *rows)
    splits = manifest(root, val_fraction=0.25).splits()
    assert [len(splits.train), len(splits.val), splits.test] == [6, 2, {}]
    assert sorted(labels(splits.val)) == ["c", "d"]


def test_without_splits_two_sets_are_held_out(root):
    rows = [f"{name}.png,x {i},{'cd'[i % 2]}" for i, name in enumerate("abcdefgh")]
    table(root, *rows, header="path,question,answer")
    columns = {"image": "path", "text": "question"}
    source = manifest(root, columns=columns, val_fraction=0.25, test_fraction=0.25, seed=3)
    splits = source.splits()
    assert [len(splits.train), len(splits.val), len(splits.test[""])] == [4, 2, 2]
    assert splits.notes[0].endswith("with seed 3: 4 for train, 2 for val, 2 for test")


def test_a_table_for_each_split(root):
    for split, row in (("train", 0), ("train", 1), ("dev", 2), ("test", 3)):
        path = root / f"{split}.csv"
        before = path.read_text() if path.exists() else HEADER + "\n"
        path.write_text(before + ROWS[row] + "\n")
    columns = {"image": "path", "text": "question"}
    files = {"train": "train.csv", "val": "dev.csv", "test": "test.csv", "test_again": "test.csv"}
    with pytest.raises(DataError, match=r"the key 'test\.csv:2' again, first test\.csv:2"):
        Manifest(root, columns, ANSWER, files=files).splits()
    del files["test_again"]
    splits = Manifest(root, columns, ANSWER, files=files).splits()
    assert [labels(part) for part in (splits.train, splits.val, splits.test[""])] == [
        ["dog", "cat"],
        ["dog"],
        ["cat"],
    ]
    assert splits.val.examples[0].key == "dev.csv:2"


def test_tables_in_folders(root):
    (root / "lists").mkdir()
    (root / "data.csv").rename(root / "lists" / "data.csv")
    example = manifest(root, "lists/data.csv").splits().train.examples[0]
    assert (example.key, example.images) == ("lists/data.csv:2", ("a.png",))


def test_no_rows_for_training(root):
    table(root, ROWS[2], ROWS[3])
    assert "no rows for training (1 for val, 1 for test)" in refused(manifest(root))
    table(root)
    assert "no rows for training (none)" in refused(manifest(root))


# --------------------------------------------------------------------- told in notes


@pytest.mark.fault("F18")
def test_repeats_and_leaks(root):
    again = ["a.png,What is it?,train,cat", "a.png,And?,val,dog", "b.png,What is it?,val,cat"]
    twice = "1 (data.csv:2 (train) = data.csv:6 (train))"
    assert manifest(table(root, *ROWS, *again)).splits().notes == (
        "Leak: the same input in different splits: 1 (data.csv:3 (train) = data.csv:8 (val))",
        f"The same input more than once in a split, kept: {twice}",
        f"The same input with different labels, kept: {twice}",
        "Leak: the same image in different splits: 2 (a.png (train, val), b.png (train, val))",
        "Split test has no example of these answer classes: 1 (dog)",
    )


def test_bad_images(root):
    (root / "a.png").unlink()
    (root / "c.png").write_bytes(b"<html>")
    message = refused(manifest(root))
    assert "2 of 4 images cannot be used" in message
    assert f"data.csv:2: {root / 'a.png'} cannot be read" in message
    assert "data.csv:4: " in message
    message = refused(manifest(root, leave_out_bad=True))
    assert "Split val has no example left: 1 of its examples could be read" in message
    table(root, *ROWS, "e.png,x,val,dog", "f.png,x,train,dog")
    splits = manifest(root, leave_out_bad=True).splits()
    assert labels(splits.train) == ["cat", "dog"]


@pytest.mark.fault("F19")
@pytest.mark.parametrize("name", ["../a.png", "/etc/passwd", "a\\b.png"])
def test_images_outside(root, name):
    table(root, *ROWS, f"{name},x,train,dog")
    message = refused(manifest(root, leave_out_bad=True))
    assert "data.csv:6: The file name" in message


# ----------------------------------------------------------------------- refused


@pytest.mark.fault("F15")
def test_all_faults_of_a_file_in_one_error(root):
    heads = {"answer": {"column": "answer", "kind": "soft"}}
    table(root, "a.png,x,train,dog", "b.png,,train,dog:7", ",,train,dog:1", "c.png,x,train,d:1")
    message = refused(manifest(root, heads=heads))
    assert "data.csv has 3 problems" in message
    assert "data.csv:2: answer: 'dog' has no score" in message
    assert "data.csv:3: answer: the score of 'dog'" in message
    assert "data.csv:4: neither an image nor a text" in message


@pytest.mark.fault("F15")
def test_faults_of_all_tables_and_images_in_one_error(root):
    columns = {"image": "path", "text": "question"}
    header = "path,question,answer"
    table(root, "a.png,x,dog,", "b.png,x,cat", header=header, file="train.csv")
    table(root, "a.png,x,dog", ",,dog", header=header, file="val.csv")
    table(root, "gone.png,x,dog", "c.png,x,cat", header="path,question,label", file="test.csv")
    table(root, "gone.png,x,dog", "c.png,x,cat", header=header, file="more.csv")
    files = {"train": "train.csv", "val": "val.csv", "test": "test.csv", "test_2": "more.csv"}
    with pytest.raises(PartlyReadError) as caught:
        manifest(root, file=None, files=files, columns=columns).splits()
    told = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 4
    for said in (
        "train.csv:2: 4 cells, and the header has 3",
        "val.csv:3: neither an image nor a text",
        "test.csv:1: no column 'answer', which heads.answer.column names",
        f"more.csv:2: {root}/gone.png cannot be read",
    ):
        assert said in told
    found = caught.value.splits
    assert (labels(found.train), labels(found.val)) == ([], ["dog"])
    assert labels(found.test["2"]) == ["cat"]


@pytest.mark.fault("F15")
def test_a_split_that_is_none_hides_no_missing_image(root):
    table(root, *ROWS, "gone.png,x,train,dog", "e.png,x,tset,dog", "f.png,x,train,dog")
    with pytest.raises(PartlyReadError) as caught:
        manifest(root).splits()
    first, second = caught.value.problems
    assert "data.csv:7: split: 'tset' is no split" in first
    assert f"data.csv:6: {root}/gone.png cannot be read" in second
    assert labels(caught.value.splits.train) == ["dog", "cat", "dog"]


@pytest.mark.fault("F15")
def test_unknown_columns_bring_the_nearest(root):
    columns = {"image": "pth", "text": "questions", "split": "fold", "key": "id"}
    heads = {"answer": {"column": "anwser"}}
    message = refused(manifest(root, columns=columns, heads=heads))
    assert "no column 'pth' (nearest: 'path'), which columns.image (pth) names" in message
    assert "no column 'questions' (nearest: 'question'), which columns.text names" in message
    assert "no column 'fold', which columns.split names" in message
    assert "no column 'id', which columns.key names" in message
    assert "no column 'anwser' (nearest: 'answer'), which heads.answer.column names" in message
    assert "The columns are: path, question, split, answer." in message


@pytest.mark.fault("F15")
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a.png,x,train,dog\n", "data.csv:1: no column 'path'"),
        ("path,question,path,answer\n", "data.csv:1: 2 columns are called 'path'"),
        ("path,,split,answer\n", "data.csv:1: the name of column 2 is empty"),
        ("\n\n", "data.csv:1: there is no header"),
        (f"{HEADER}\na.png,x,train\n", "data.csv:2: 3 cells, and the header has 4"),
        (f"{HEADER}\n\na.png,x,train,dog,\n", "data.csv:3: 5 cells, and the header has 4"),
        (f'{HEADER}\na.png,"x" y,train,dog\n', "data.csv:2: not in the format: ',' expected"),
        (f'{HEADER}\na.png,"x,train,dog\nb\n', "data.csv:2: not in the format: unexpected end"),
        (f"{HEADER}\na.png,{'x' * 140_000},train,dog\n", "data.csv:2: not in the format: field"),
        ("", "data.csv is empty (0 bytes)"),
    ],
)
def test_malformed_tables(root, text, told):
    (root / "data.csv").write_text(text)
    assert told in refused(manifest(root))


def test_texts_of_another_type(root):
    row = {"path": "a.png", "question": ["x"], "split": "train", "answer": "dog"}
    json_lines(root, row, {**row, "question": 7}, {**row, "path": 7, "question": "x"})
    message = refused(manifest(root, "data.jsonl"))
    assert "data.jsonl:1: question: a list of 1, where a text was expected" in message
    assert "data.jsonl:2: question: 7, where a text was expected" in message
    assert "data.jsonl:3: path: 7, where the name of an image file was expected" in message


def test_missing_files(tmp_path):
    assert "nowhere' is not a folder" in refused(manifest(tmp_path / "nowhere"))
    (tmp_path / "dta.csv").write_text(HEADER)
    assert "data.csv: files.train (nearest: 'dta.csv')" in refused(manifest(tmp_path))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "give either file"),
        ({"file": "a.csv", "files": {"train": "a.csv"}}, "give either file"),
        ({"file": "a.xlsx"}, "a.xlsx: the ending tells the format"),
        ({"files": {"train": "a.csv"}}, "columns.split too"),
        ({"files": {"train": "a.csv"}, "columns": {"text": "t"}, "val_fraction": 1.0}, "is 1.0"),
        ({"files": {"tran": "a.csv"}, "columns": {"text": "t"}}, "nearest: 'train'"),
        ({"files": {"val": "a.csv"}, "columns": {"text": "t"}}, "and no train"),
        (
            {"files": {"train": "a.csv", "val": "b.csv", "dev": "c.csv"}, "columns": {"text": "t"}},
            "files has val twice: b.csv and c.csv",
        ),
        ({"file": "a.csv", "columns": {"txt": "t"}}, "columns has no key 'txt' (nearest: 'text')"),
        ({"file": "a.csv", "columns": {"split": "s"}}, "there is nothing to classify"),
        ({"file": "a.csv", "columns": {"text": 7}}, "columns.text is 7: give the name"),
        ({"file": "a.csv", "columns": {"image": ["a", 7]}}, "columns.image is 7"),
        ({"file": "a.csv", "heads": {}}, "heads is empty"),
        ({"file": "a.csv", "heads": {"h": "answer"}}, "heads.h is 'answer'"),
        ({"file": "a.csv", "heads": {"h": {"kind": "multi"}}}, "heads.h.column is None"),
        ({"file": "a.csv", "heads": {"h": {"column": "a", "kind": "mulit"}}}, "nearest: 'multi'"),
        ({"file": "a.csv", "heads": {"h": {"column": "a", "class": []}}}, "nearest: 'classes'"),
        (
            {"file": "a.csv", "heads": {"h": {"column": "a", "separator": "|"}}},
            "heads.h has a separator, and its kind is single",
        ),
        (
            {"file": "a.csv", "heads": {"h": {"column": "a", "kind": "soft", "separator": " "}}},
            "give a visible character",
        ),
        (
            {"file": "a.csv", "heads": {"h": {"column": "a", "classes": [True, False]}}},
            "YAML reads yes, no, on and off as true and false",
        ),
        ({"file": "a.csv", "heads": {"h": {"column": "a", "classes": "ab"}}}, "a list of names"),
        (
            {
                "file": "a.csv",
                "columns": {"image": "i"},
                "heads": {"h": {"column": "a", "kind": "words"}},
            },
            "kind is words, and columns.text is not given",
        ),
    ],
)
def test_configurations_that_make_no_sense(tmp_path, options, told):
    with pytest.raises(ConfigError) as caught:
        Manifest(tmp_path, **{"columns": COLUMNS, "heads": ANSWER, **options})
    assert told in str(caught.value)


pieces = st.lists(
    st.one_of(
        st.binary(max_size=20),
        st.sampled_from([b"a.png,x,train,dog", b'"', b",,,", b"b.png,,val,", b"\xff", b"../x,,,"]),
    ),
    max_size=6,
).map(b"\n".join)


@pytest.mark.fault("F15")
@pytest.mark.fault("F16")
@settings(max_examples=80)
@given(pieces, st.booleans(), st.booleans())
def test_any_bytes_are_read_or_refused(data, appended, quotes):
    with tempfile.TemporaryDirectory() as folder:
        root = table(pictures(Path(folder)), *ROWS)
        path = root / "data.csv"
        path.write_bytes(path.read_bytes() + data if appended else data)
        try:
            splits = manifest(root, quotes=quotes).splits()
        except DataError:
            return
        for part in (splits.train, splits.val, *splits.test.values()):
            assert all(e.images or e.text for e in part.examples)
            assert all(e.labels["answer"] for e in part.examples)
