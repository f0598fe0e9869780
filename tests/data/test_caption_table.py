"""Captions in tables: every way to list several, and every wrong row with its line."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmattn.data.caption_table import CaptionTable
from mmattn.data.dataset import CaptionSource
from mmattn.errors import ConfigError, DataError

COLUMNS = {"image": "image", "caption": "caption", "split": "split"}
ROWS = [
    ("photos/a.jpg", "A dog, running", "train"),
    ("photos/a.jpg", "Two dogs", "training"),
    ("photos/b.jpg", "A cat", "train"),
    ("photos/c.jpg", "A cow", "valid"),
    ("photos/d.jpg", "A goat", "test"),
]


def pictures(root):
    (root / "photos").mkdir(parents=True)
    for name in "abcd":
        Image.new("RGB", (9, 8)).save(root / "photos" / f"{name}.jpg")
    return root


@pytest.fixture
def root(tmp_path):
    return pictures(tmp_path / "set")


def table(root, rows=ROWS, name="t.csv", header=("image", "caption", "split")):
    lines = [",".join(f'"{cell}"' for cell in row) for row in (header, *rows)]
    (root / name).write_text("".join(f"{line}\n" for line in lines))


def source(root, **options):
    return CaptionTable(root, **({"columns": COLUMNS, "file": "t.csv"} | options))


def refused(root, **options):
    with pytest.raises(DataError) as caught:
        source(root, **options).splits()
    return str(caught.value)


def check(splits):
    assert [splits.train.key(i) for i in range(2)] == ["photos/a.jpg", "photos/b.jpg"]
    assert splits.train.captions(0) == ("a dog, running", "two dogs")
    assert (len(splits.train), splits.val.key(0)) == (2, "photos/c.jpg")
    assert splits.test[""].key(0) == "photos/d.jpg"
    assert splits.train.image(0).shape == (3, 8, 9)


def test_a_row_for_every_caption(root):
    table(root)
    read: CaptionSource = source(root)
    check(read.splits())


def test_a_list_in_jsonl(root):
    (root / "t.jsonl").write_text(
        '{"image": "photos/a.jpg", "caption": ["A dog, running", "Two dogs"], "split": "train"}\n'
        '{"image": "photos/b.jpg", "caption": "A cat", "split": "train"}\n'
        '{"image": "photos/c.jpg", "caption": "A cow", "split": "val"}\n'
        '{"image": "photos/d.jpg", "caption": ["A goat"], "split": "test"}\n'
    )
    check(source(root, file="t.jsonl").splits())


def test_several_columns_in_tables_of_their_own(root):
    header = "image\tone\ttwo\n"
    (root / "a.tsv").write_text(
        header + "a.jpg\tA dog, running\tTwo dogs\nb.jpg\tA cat\t\n".replace("\n\n", "\n")
    )
    (root / "b.tsv").write_text(header + "c.jpg\tA cow\tCows\n")
    (root / "c.tsv").write_text(header + "d.jpg\tA goat\tGoats\n")
    splits = source(
        root,
        file=None,
        files={"train": "a.tsv", "dev": "b.tsv", "test_goats": "c.tsv"},
        columns={"image": "image", "caption": ["one", "two"], "split": None},
        image_root=root / "photos",
    ).splits()
    assert splits.train.captions(0) == ("a dog, running", "two dogs")
    assert splits.train.captions(1) == ("a cat",)
    assert list(splits.test) == ["goats"]
    assert splits.notes == ("a.tsv: empty captions, left out: 1 (line 3)",)


@pytest.mark.fault("F15")
def test_marks_windows_line_ends_and_another_encoding(root):
    table(root, [("photos/a.jpg", "un café", "train"), *ROWS[2:]])
    text = (root / "t.csv").read_text()
    (root / "t.csv").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert source(root).splits().train.captions(0) == ("un café",)
    (root / "t.csv").write_bytes(text.encode("latin-1"))
    assert "t.csv:2: byte offset" in refused(root)
    assert source(root, encoding="latin-1").splits().train.captions(0) == ("un café",)


def test_without_splits_images_are_held_out_whole(root):
    table(root, [row[:2] for row in ROWS], header=("image", "caption"))
    splits = source(
        root, columns=COLUMNS | {"split": None}, val_fraction=0.25, test_fraction=0.25
    ).splits()
    sets = [splits.train, splits.val, splits.test[""]]
    assert [len(each) for each in sets] == [2, 1, 1]
    assert len({each.key(i) for each in sets for i in range(len(each))}) == 4


@pytest.mark.fault("F15")
@pytest.mark.fault("F18")
@pytest.mark.fault("F19")
@pytest.mark.parametrize(
    ("row", "said"),
    [
        (("", "A dog", "train"), "t.csv:7: 0 images, where one was expected"),
        (("photos/a.jpg", "A dog", "trn"), "t.csv:7: split: 'trn' is no split (nearest: 'train')"),
        (("photos/a.jpg", "A dog", "test"), "is in split test, and in train (t.csv:2)"),
        (("photos/x.jpg", "A dog", "train"), "t.csv:7: 'photos/x.jpg' is no file in"),
        (("../x.jpg", "A dog", "train"), "t.csv:7: the file name '../x.jpg' holds '..'"),
        (("/x.jpg", "A dog", "train"), "t.csv:7: the file name '/x.jpg' is absolute"),
        (("C:x.jpg", "A dog", "train"), "t.csv:7: the file name 'C:x.jpg' is absolute"),
        (("photos/a.jpg", "A dog"), "t.csv:7: 2 cells, and the header has 3"),
    ],
)
def test_a_wrong_row_is_told_with_its_line(root, row, said):
    table(root, [*ROWS, row])
    assert said in refused(root)


@pytest.mark.fault("F15")
def test_wrong_rows_and_missing_images_are_one_error(root):
    (root / "photos" / "d.jpg").write_bytes(b"")
    table(root, [*ROWS, ("", "x", "train"), ("photos/x.jpg", "x", "val")])
    message = refused(root)
    for said in ("t.csv:7: 0 images", "t.csv:8: 'photos/x.jpg' is no file", "d.jpg is empty"):
        assert said in message


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"image": ["a.jpg", "b.jpg"], "caption": "x"}', "t.jsonl:1: 2 images"),
        ('{"image": "a.jpg", "caption": ["x", 3]}', "t.jsonl:1: caption: an integer, where"),
        ('{"image": "a.jpg", "caption": "x", "split": 1}', "t.jsonl:1: split: 1 is no split"),
        ('{"image": 3, "caption": "x"}', "where the name of an image file was expected"),
        ("[]", "t.jsonl:1: a list, where an object"),
    ],
)
def test_a_wrong_value_of_json(root, line, said):
    (root / "t.jsonl").write_text(line + '\n{"image": "", "caption": "", "split": "train"}\n')
    assert said in refused(root, file="t.jsonl")


def test_columns_that_are_not_there(root):
    table(root, header=("image", "captions", "part"))
    message = refused(root)
    assert "t.csv:1: no column 'caption' (nearest: 'captions'), which columns.caption" in message
    assert "no column 'split'" in message


@pytest.mark.fault("F17")
def test_rows_without_a_caption(root):
    table(root, [*ROWS, ("photos/b.jpg", " ", "train")])
    assert source(root).splits().notes[0] == "t.csv: empty captions, left out: 1 (line 7)"
    table(root, ROWS[3:])
    assert "no rows for training (val, test)" in refused(root)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"columns": COLUMNS | {"text": "x"}}, "columns has no key 'text'"),
        ({"columns": COLUMNS | {"image": None}}, r"columns\.image is None"),
        ({"columns": {"image": "image"}}, r"columns\.caption is None"),
        ({"columns": COLUMNS | {"split": 3}}, r"columns\.split is 3"),
        ({"file": "t.xlsx"}, "the ending tells the format"),
        ({"files": {"train": "a.csv"}}, "give either file"),
        ({"val_fraction": 1.5}, "val_fraction is 1.5"),
    ],
)
def test_settings_that_cannot_be(root, options, said):
    with pytest.raises(ConfigError, match=said):
        source(root, **options)


@pytest.mark.fault("F15")
@pytest.mark.fault("F16")
@settings(max_examples=25)
@given(st.binary(max_size=60), st.sampled_from(["t.csv", "t.tsv", "t.jsonl"]), st.booleans())
def test_any_bytes_are_read_or_refused(data, name, appended):
    with tempfile.TemporaryDirectory() as folder:
        root = pictures(Path(folder) / "set")
        table(root, name=name)
        whole = (root / name).read_bytes() if name == "t.csv" else b""
        (root / name).write_bytes(whole + data if appended else data)
        try:
            assert len(source(root, file=name).splits().train)
        except DataError:
            return
