"""A JSON file holds names and values, or is refused in one line that names it."""

import pytest

from mmattn.errors import CheckpointError
from mmattn.json_file import read_json


def refusal(path):
    with pytest.raises(CheckpointError) as caught:
        read_json(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_names_and_values_are_read(tmp_path):
    (tmp_path / "config.json").write_text('{"a": [1, null], "é": {"b": 0.5}}', "utf-8")
    assert read_json(tmp_path / "config.json") == {"a": [1, None], "é": {"b": 0.5}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"model_type": ', "cannot be read as JSON"),
        (b"[" * 100_000, "cannot be read as JSON"),
        (b"[1, 2]", "holds no JSON object"),
        (b"", "cannot be read as JSON"),
        (b"\xff\xfe{}", "cannot be read as JSON"),
        (b'{"n": ' + b"9" * 5000 + b"}", "cannot be read as JSON"),
    ],
)
def test_json_that_is_none_is_refused(tmp_path, content, message):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    assert refusal(path).startswith(f"{path}: {message}")


def test_a_missing_file_and_a_folder_in_its_place_are_named(tmp_path):
    assert refusal(tmp_path / "config.json") == f"{tmp_path}/config.json: no such file"
    assert refusal(tmp_path) == f"{tmp_path}: no such file"
