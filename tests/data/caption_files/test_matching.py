import pytest

from mmattn.data.caption_files.entry import Entry, named
from mmattn.data.caption_files.matching import differences, match
from mmattn.errors import DataError


def entry(key, name=None, place="1"):
    return Entry(key, ("a",), name or named(key), place)


def pairs(references, predictions):
    found = match(references, predictions)
    told = [(pair.reference.key, pair.prediction.key) for pair in found.pairs]
    return told, [e.key for e in found.unpredicted], [e.key for e in found.unknown], found.by_name


def test_the_same_number_or_name_is_the_same_image():
    references = [entry(1), entry(2), entry("b/c.jpg")]
    assert pairs(references, [entry("b/c.jpg"), entry(1)]) == (
        [(1, 1), ("b/c.jpg", "b/c.jpg")],
        [2],
        [],
        0,
    )


def test_a_number_is_no_text():
    assert pairs([entry(1)], [entry("1")]) == ([], [1], ["1"], 0)


def test_numbers_are_found_by_the_names_of_files():
    references = [entry(1, "000001.jpg"), entry(2, "val/000002.jpg")]
    predictions = [entry("val/000002.jpg"), entry("photos/000001.jpg")]
    assert pairs(references, predictions) == (
        [(1, "photos/000001.jpg"), (2, "val/000002.jpg")],
        [],
        [],
        1,
    )


def test_the_same_name_goes_before_the_same_file_name():
    references = [entry("x/a.jpg"), entry("y/a.jpg")]
    assert pairs(references, [entry("y/a.jpg"), entry("x/a.jpg")])[0] == [
        ("x/a.jpg", "x/a.jpg"),
        ("y/a.jpg", "y/a.jpg"),
    ]


def test_a_file_name_of_two_images_is_refused():
    with pytest.raises(DataError, match=r"'z/a.jpg' \(1\) may be of 2 \('x/a.jpg', 'y/a.jpg'\)"):
        match([entry("x/a.jpg"), entry("y/a.jpg")], [entry("z/a.jpg")])


def test_two_predictions_of_one_image_are_refused():
    message = r"predictions 'x/a.jpg' \(1\) and 'y/a.jpg' \(2\) are both of the image 'a.jpg'"
    with pytest.raises(DataError, match=message):
        match([entry("a.jpg")], [entry("x/a.jpg"), entry("y/a.jpg", place="2")])


def test_what_is_left_over_is_told_with_the_first_names():
    found = match([entry(i) for i in range(5)], [entry(0), entry("x")])
    assert list(differences(found)) == [
        "references and no prediction: 4 (1, 2, 3, ...)",
        "a prediction and no references: 1 ('x')",
    ]
