"""JSON read strictly: one meaning or an error with its line."""

import pytest

from mmattn.data.labelled.json_values import fields_fault, read_json, read_jsonl
from mmattn.errors import DataError


def put(tmp_path, text, name="x.json"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_json(tmp_path):
    assert read_json(put(tmp_path, '\ufeff{"a": [1,\r\n "é", null]}')) == {"a": [1, "é", None]}


@pytest.mark.fault("F15")
@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"a": 1,\n"b" 2}', "x.json:2: no JSON: Expecting ':' delimiter at column 5"),
        ('{"a": 1, "a": 2}', "the field 'a' twice in one object"),
        ('{"a": "NaN",\n"b\\" NaN": [1,\nNaN]}', "x.json:3: NaN is no JSON number"),
        ('{"a": -Infinity}', "x.json:1: -Infinity is no JSON number"),
        ("[" * 100_000, "brackets nested too deep"),
        ('{"a": 1' + "0" * 5000 + "}", "thousands of digits"),
        ("", "is empty (0 bytes)"),
        (b'{"a": "\xff"}', "0xff is not utf-8"),
    ],
)
def test_what_is_no_json(tmp_path, text, fault):
    with pytest.raises(DataError) as caught:
        read_json(put(tmp_path, text))
    assert fault in str(caught.value)


def test_json_lines(tmp_path):
    path = put(tmp_path, '{"a": 1}\n\n  \r\n{"b": "x\\u2028y"}\n', "x.jsonl")
    assert read_jsonl(path) == [(1, {"a": 1}), (4, {"b": "x\u2028y"})]


@pytest.mark.fault("F15")
def test_all_bad_lines_in_one_error(tmp_path):
    path = put(tmp_path, '{"a": 1}\n{"a": \n[1]\n"x"\n{"a": 1, "a": 1}\n{"a": NaN}\n', "x.jsonl")
    with pytest.raises(DataError) as caught:
        read_jsonl(path)
    message = str(caught.value)
    assert "x.jsonl has 5 problems" in message
    assert "x.jsonl:2: no JSON: Expecting value at column 7: '{\"a\": '" in message
    assert "x.jsonl:3: a list, where an object was expected" in message
    assert "x.jsonl:4: a text, where an object" in message
    assert "x.jsonl:5: the field 'a' twice" in message
    assert "x.jsonl:6: NaN is no JSON number" in message


WANTED = {"id": (int, str), "score": (float,), "words": (list,)}


@pytest.mark.fault("F15")
@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ({"id": 1, "score": 1, "words": []}, None),
        ({"id": "1", "score": 0.5, "words": [], "more": None}, None),
        ([], "a list, where an object was expected"),
        ({"id": 1, "scor": 1, "words": []}, "no field 'score' (nearest: 'scor')"),
        (
            {"id": True, "score": 1, "words": []},
            "'id' is true or false, where an integer or a text",
        ),
        ({"id": 1.5, "score": 1, "words": []}, "'id' is a number, where an integer or a text"),
        ({"id": 1, "score": "1", "words": []}, "'score' is a text, where a number was expected"),
        ({"id": 1, "score": 1, "words": None}, "'words' is null, where a list was expected"),
        ({"id": 1, "score": 1, "words": {}}, "'words' is an object, where a list was expected"),
    ],
)
def test_types_of_fields(value, fault):
    found = fields_fault(value, WANTED)
    assert found == fault if fault is None else found.startswith(fault)
