import pytest

from mmattn.errors import DataError
from mmattn.reports.scores.object_words import read_objects


def test_an_object_a_line_with_synonyms(tmp_path):
    path = tmp_path / "objects.txt"
    path.write_text("Dog, puppy\n\nfire hydrant\n")
    assert read_objects(path) == {"dog": ["Dog", "puppy"], "fire hydrant": ["fire hydrant"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dog\ncat, dog\n", "objects.txt:2: 'dog' is in line 1, too"),
        ("dog,\n", "objects.txt:1: '' holds no word"),
        ("\n\n", "objects.txt names no object"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, message):
    path = tmp_path / "objects.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_objects(path)
