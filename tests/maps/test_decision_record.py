"""A record of a decision holds what fits together, in memory and on disk."""

import io
from dataclasses import fields, replace

import numpy as np
import pytest

from mmattn.errors import DataError
from mmattn.maps import decision_archive
from mmattn.maps.archive import IMAGE_SIDE, load_attention
from mmattn.maps.decision_archive import is_decision, load_decision, save_decision
from mmattn.maps.decision_record import ExplainedClass
from mmattn.maps.decision_sheet import decision_line, decision_sheet

HOSTILE = "</script>\x00 \u2028 ' \" é"
WORDS = (ExplainedClass("entity", "O", 0.9, "is", 0), ExplainedClass("entity", "B", 0.6, "dog?", 3))
KINDS = [
    {},
    {"images": 2},
    {"images": 0},
    {"text": None},
    {"text": ""},
    {"classes": WORDS, "images": 0},
    {"key": HOSTILE, "step": 500},
    {"images": 0, "missing": ("image",)},
    {"text": None, "missing": ("text",)},
    {
        "classes": (
            ExplainedClass("answer", "yes", 0.7),
            ExplainedClass("answer", "no", 0.2, role="right"),
        ),
        "truth": "no",
        "wrong": True,
        "set": "test/fonts",
        "why": "mistake",
    },
]


def refused(path) -> str:
    with pytest.raises(DataError) as raised:
        load_decision(path)
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith(str(path))
    return str(raised.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_holds_all_of_a_record(make_decision, tmp_path, kind):
    record = make_decision(**kind)
    save_decision(tmp_path / "new" / "a.npz", record)
    read = load_decision(tmp_path / "new" / "a.npz")
    for field in fields(record):
        wanted, found = getattr(record, field.name), getattr(read, field.name)
        if isinstance(wanted, np.ndarray):
            np.testing.assert_array_equal(found, wanted)
        elif field.name == "images":
            assert [(one.name, one.placement) for one in found] == [
                (one.name, one.placement) for one in wanted
            ]
            for one, other in zip(found, wanted, strict=True):
                np.testing.assert_array_equal(one.image, other.image)
        else:
            assert found == wanted
    assert (tmp_path / "new" / "a.npz").read_bytes() == rewritten(tmp_path, read)


def rewritten(folder, record):
    save_decision(folder / "again.npz", record)
    return (folder / "again.npz").read_bytes()


def test_numpy_alone_reads_the_numbers(make_decision, tmp_path):
    record = make_decision()
    save_decision(tmp_path / "a.npz", record)
    with np.load(tmp_path / "a.npz") as arrays:  # no pickle
        assert arrays["labels"].tolist() == ["yes", "no", "old"]
        assert arrays["heads"].tolist() == ["answer", "answer", "traits"]
        assert arrays["roles"].tolist() == ["predicted", "next", "predicted"]
        assert arrays["probability"].tolist() == [0.7, 0.2, 0.6]
        assert arrays["words"].tolist() == ["is", "it", "a", "dog?"]
        assert arrays["tokens"].tolist() == ["(begin)", "is", "it", "a", "dog?", "(end)"]
        assert arrays["images"].tolist() == ["0.png"]
        assert arrays["image_relevance"].shape == (3, 1, 5, 8)
        np.testing.assert_allclose(arrays["word_relevance"], arrays["text_relevance"][:, 1:-1])
        listed = decision_archive.__doc__ or ""
        assert all(name in listed for name in arrays if name != "image_0")


def test_what_is_no_such_file_is_said(make_decision, tmp_path):
    path = tmp_path / "a.npz"
    assert "there is no such file" in refused(path)
    save_decision(path, make_decision())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "cut off, or no NPZ archive" in refused(path)
    assert not is_decision(path)
    np.savez(path, a=np.zeros(3))
    assert "it holds no relevance of a decision" in refused(path)
    np.savez(path, decision_format=np.array(9))
    assert "has format 9, but this version of mmattn reads format 1" in refused(path)
    np.savez(path, decision_format=np.array(1))
    assert "not a whole decision file" in refused(path)
    with np.load(io.BytesIO(whole)) as arrays:
        about = str(arrays["about"]).replace('"role": "next"', '"role": "best"')
        np.savez(path, **({**arrays} | {"about": np.array(about)}))
    assert "a class is 'best', not one of predicted, right, next" in refused(path)
    path.write_bytes(whole)
    assert is_decision(path)
    with pytest.raises(DataError, match="it holds no attention weights"):
        load_attention(path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"image_relevance": np.zeros((3, 2, 5, 8))}, "3 classes and 1 images need"),
        ({"text_relevance": np.zeros((3, 5))}, r"3 classes and 6 tokens need \(3, 6\)"),
        ({"offsets": ((0, 0), (0, 99), *[(0, 0)] * 4)}, "a caption that has 12"),
        ({"missing": ("image",)}, r"missing=\('image',\), but there are 1 images"),
        ({"missing": ("sound",)}, r"missing=\('sound',\), but"),
        ({"truth": "yes"}, "the truth 'yes' is of one head, not of 2"),
    ],
)
def test_what_does_not_fit_is_refused(make_decision, changes, said):
    with pytest.raises(ValueError, match=said):
        make_decision(**changes)


def test_relevance_is_not_negative(make_decision):
    record = make_decision()
    with pytest.raises(ValueError, match="relevance is negative"):
        replace(record, text_relevance=record.text_relevance - 1)


def test_a_record_of_nothing_is_refused(make_decision):
    with pytest.raises(ValueError, match="explains one class or more"):
        make_decision(classes=())


def test_some_classes_of_a_record(make_decision):
    record = make_decision()
    assert record.heads == {"answer": [0, 1], "traits": [2]}
    part = record.only([2, 0])
    assert [one.label for one in part.classes] == ["old", "yes"]
    np.testing.assert_array_equal(part.image_relevance[1], record.image_relevance[0])
    assert (record.in_words(0), record.grid) == ("yes 0.70", (5, 8))
    assert make_decision(classes=WORDS, images=0).in_words(1) == "dog?: B 0.60"


@pytest.mark.parametrize("kind", KINDS)
def test_every_record_is_a_picture(make_decision, kind):
    picture = decision_sheet(make_decision(**kind))
    assert picture.dtype == np.uint8
    assert picture.ndim == 3
    assert np.unique(picture.reshape(-1, 3), axis=0).shape[0] > 20  # something is drawn


def test_each_head_has_its_place_on_the_picture(make_decision):
    record = make_decision()
    whole, answer = (decision_sheet(one).shape for one in (record, record.only([0, 1])))
    assert whole[0] > 1.5 * answer[0]


def test_what_is_missing_is_said_on_the_picture_and_what_is_not_taken_is_not(make_decision):
    """A place for an image, or a line for the text, where the model takes one."""
    for kind in ({"images": 0}, {"text": None}):
        lacks = ("image",) if "images" in kind else ("text",)
        without, place = make_decision(**kind), make_decision(**kind, missing=lacks)
        assert decision_sheet(place).shape[0] > decision_sheet(without).shape[0] + 20


def test_a_line_has_the_truth_once(make_decision):
    classes = (
        ExplainedClass("answer", "yes", 0.75),
        ExplainedClass("answer", "no", 0.2, role="right"),
    )
    record = make_decision(classes=classes, truth="no")
    assert decision_line(record) == "predicted: yes · 0.750 | right: no · 0.200"
    other = make_decision(classes=classes, truth="no, never")
    assert decision_line(other).endswith("right: no · 0.200 | truth: no, never")
    assert decision_sheet(other).shape[0] > decision_sheet(record).shape[0]


def test_a_large_image_is_kept_small_its_place_and_size_as_they_were(make_decision, tmp_path):
    record = make_decision(size=(1200, 900))
    save_decision(tmp_path / "a.npz", record)
    read = load_decision(tmp_path / "a.npz")
    assert read.images[0].image.shape == (IMAGE_SIDE, 384, 3)
    assert read.images[0].placement == record.images[0].placement
    assert decision_sheet(read).shape == decision_sheet(record).shape
