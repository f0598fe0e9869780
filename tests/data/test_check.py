"""Checking a data set: everything that is wrong in one report, lengths, sizes, the same images."""

import json

import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from mmattn.data.caption_table import CaptionTable
from mmattn.data.check import check_data, table
from mmattn.data.glyphs.source import Glyphs
from mmattn.data.label_module import LabelDataModule
from mmattn.data.labelled.manifest import Manifest
from mmattn.data.module import CaptionDataModule, LoaderOptions, TokenizerOptions
from mmattn.data.shards.pack import pack
from mmattn.data.shards.source import Shards
from mmattn.errors import DataError

COLUMNS = {"image": "image", "caption": "caption", "split": "split"}
SPLITS = ["train", "train", "train", "val", "test"]


@pytest.fixture
def root(tmp_path):
    """Five photos of noise, of different sizes, with a caption each; photo i is `i.jpg`."""
    generator = torch.Generator().manual_seed(0)
    for i in range(5):
        size = (10 + i, 12, 3)
        pixels = torch.randint(0, 256, size, generator=generator, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(tmp_path / f"{i}.jpg")
    rows = [f"{i}.jpg,a dog on picture {i},{split}" for i, split in enumerate(SPLITS)]
    (tmp_path / "t.csv").write_text("\n".join(["image,caption,split", *rows]))
    return tmp_path


def module(source, kind=CaptionDataModule, **options):
    return kind(
        source=source,
        image_size=(8, 8),
        train_transform=v2.Identity(),
        eval_transform=v2.Identity(),
        tokenizer=TokenizerOptions(path=None, vocab_size=300),
        loader=LoaderOptions(batch_size=1, eval_batch_size=1),
        **({"max_length": 64, "seed": 0} | options),
    )


def checked(root, decode=True, **options):
    source = CaptionTable(root, COLUMNS, file="t.csv")
    return check_data(module(source, **options), decode=decode, threads=2)


@pytest.mark.parametrize("decode", [True, False])
def test_a_faultless_set(root, decode):
    report = checked(root, decode)
    assert report.problems == report.notes == report.leaks == report.duplicates == []
    train = report.sets["train"]
    assert (train.images, train.texts) == (3, 3)
    assert (train.smallest, train.largest) == ((10, 12), (12, 12))
    captions = [f"a dog on picture {i}" for i in range(3)]
    tokenizer = module(None).make_tokenizer(captions)
    longest = max(len(tokenizer.encode(caption)) + 1 for caption in captions)
    assert train.lengths is not None
    assert train.lengths.longest == longest
    assert json.loads(json.dumps(report.plain()))["sets"]["test"]["smallest"] == [14, 12]
    assert table(report.sets)[0].startswith("train: 3 images, 3 texts, tokens p50 ")


@pytest.mark.fault("F13")
@pytest.mark.fault("F15")
def test_wrong_rows_and_damaged_images_are_one_report(root):
    rows = ["x.jpg,absent,train", "0.jpg,a dog,tset", ",nothing,val"]
    (root / "t.csv").write_text("\n".join([(root / "t.csv").read_text(), *rows]))
    (root / "1.jpg").write_bytes((root / "1.jpg").read_bytes()[:-30])
    (root / "3.jpg").write_bytes(b"<html>")
    problems = checked(root).problems
    assert len(problems) == 5
    told = "\n".join(problems)
    for said in (
        "t.csv:8: split: 'tset' is no split",
        "t.csv:9: 0 images, where one was expected",
        "t.csv:7: 'x.jpg' is no file in",
        f"t.csv:5: {root}/3.jpg is not an image",
        f"train: 1.jpg: {root}/1.jpg cannot be decoded",
    ):
        assert said in told


def test_a_set_of_which_nothing_can_be_read(tmp_path):
    report = checked(tmp_path / "absent")
    assert len(report.problems) == 1
    assert report.sets == {}


@pytest.mark.fault("F18")
@pytest.mark.parametrize("decode", [True, False])
def test_the_same_image_in_two_splits_is_a_problem_and_in_one_a_note(root, decode):
    (root / "2.jpg").write_bytes((root / "1.jpg").read_bytes())
    (root / "3.jpg").write_bytes((root / "0.jpg").read_bytes())
    report = checked(root, decode)
    assert report.duplicates == [["train: 1.jpg", "train: 2.jpg"]]
    assert report.leaks == [["train: 0.jpg", "val: 3.jpg"]]
    assert report.problems == ["the same image in different splits: train: 0.jpg = val: 3.jpg"]


@pytest.mark.fault("F18")
def test_the_same_pixels_in_another_file_are_the_same_image(root):
    Image.open(root / "0.jpg").save(root / "3.jpg", "PNG")
    assert checked(root).leaks == [["train: 0.jpg", "val: 3.jpg"]]
    assert checked(root, decode=False).leaks == []


@pytest.mark.fault("F17")
def test_long_texts_are_counted(root):
    refused = checked(root, max_length=3).problems
    assert [line.partition(",")[0] for line in refused] == [
        "train: 3 of 3 texts are longer than max_length=3 tokens",
        "val: 1 of 1 texts are longer than max_length=3 tokens",
        "test: 1 of 1 texts are longer than max_length=3 tokens",
    ]
    cut = checked(root, max_length=3, truncate=True)
    assert cut.problems == []
    assert cut.notes[0].endswith("first that of 0.jpg; they are cut")


@pytest.mark.parametrize("decode", [True, False])
def test_shards(root, tmp_path, decode):
    (root / "3.jpg").write_bytes((root / "0.jpg").read_bytes())
    pack(CaptionTable(root, COLUMNS, file="t.csv").splits(), tmp_path / "packed")
    report = check_data(module(Shards(tmp_path / "packed")), decode=decode)
    assert report.leaks == [["train: 0.jpg", "val: 3.jpg"]]
    assert report.sets["test"].largest == (14, 12)


@pytest.mark.parametrize("decode", [True, False])
def test_labelled_sets(root, decode):
    columns = {"image": "image", "text": "caption", "split": "split"}
    (root / "4.jpg").write_bytes((root / "4.jpg").read_bytes()[:-30])
    rows = [f"{i}.jpg,is it {i}?,{split},yes" for i, split in enumerate(SPLITS)]
    rows += ["0.jpg,is it big?,train,no"]
    (root / "t.csv").write_text("\n".join(["image,caption,split,label", *rows]))
    source = Manifest(root, columns, {"label": {"column": "label"}}, file="t.csv")
    report = check_data(module(source, LabelDataModule), decode=decode)
    assert (report.sets["train"].images, report.sets["train"].texts) == (3, 4)
    assert report.sets["train"].lengths is not None
    assert len(report.problems) == decode  # a header does not tell that the rest is missing


@pytest.mark.fault("F18")
@pytest.mark.parametrize("decode", [True, False])
def test_what_training_notes_of_the_same_images_is_told_once(root, decode):
    columns = {"image": "image", "text": "caption", "split": "split"}
    for copy, photo in {"1.jpg": "0.jpg", "3.jpg": "2.jpg"}.items():
        (root / copy).write_bytes((root / photo).read_bytes())
    rows = [f"{i}.jpg,is it {i}?,{split},yes" for i, split in enumerate(SPLITS)]
    rows += ["4.jpg,is it big?,train,yes"]
    (root / "t.csv").write_text("\n".join(["image,caption,split,label", *rows]))
    source = Manifest(root, columns, {"label": {"column": "label"}}, file="t.csv")
    assert [note.partition(":")[0] for note in source.splits().notes] == [
        *("Leak", "Leak"),
        "Byte-identical photos within one split, kept",
    ]
    report = check_data(module(source, LabelDataModule), decode=decode)
    assert report.notes == []
    assert report.duplicates == [["train: 0.jpg", "train: 1.jpg"]]
    assert sorted(report.problems) == [
        "the same image in different splits: train: 2.jpg = val: 3.jpg",
        "the same image in different splits: train: 4.jpg = test: 4.jpg",
    ]


@pytest.mark.fault("F15")
def test_labels_that_training_refuses_are_a_problem(root):
    columns = {"image": "image", "text": "caption", "split": "split"}
    labels = ["yes", "no", "yes", "maybe", "no"]  # "maybe" is no class of training
    pairs = enumerate(zip(SPLITS, labels, strict=True))
    rows = [f"{i}.jpg,is it {i}?,{split},{label}" for i, (split, label) in pairs]
    (root / "t.csv").write_text("\n".join(["image,caption,split,label", *rows]))
    source = Manifest(root, columns, {"label": {"column": "label", "most_common": 2}}, file="t.csv")
    data = module(source, LabelDataModule)
    with pytest.raises(DataError) as caught:
        data.read()
    report = check_data(data)
    assert report.problems == [str(caught.value)]
    assert "label is 'maybe', which is none of its 2 classes" in report.problems[0]
    assert report.sets["val"].largest == (13, 12)


@pytest.mark.slow
def test_letters_that_look_alike_are_no_problem():
    fonts = (["DejaVuSans", "DejaVuSansMono"], ["DejaVuSerif"], ["LATIN", "CYRILLIC"], ["Lu"])
    report = check_data(module(Glyphs(16, *fonts)))
    assert report.problems == []
    assert report.duplicates
