"""Caption text: strict reading with line and byte offset, cleaning, all problems in one error."""

import re
import tempfile
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mmattn.data import captions
from mmattn.data.captions import clean_caption, excerpt, read_lines
from mmattn.data.problems import Problems
from mmattn.errors import ConfigError, DataError


@pytest.fixture
def read(tmp_path):
    def read_bytes(data, **options):
        path = tmp_path / "captions.txt"
        path.write_bytes(data)
        return read_lines(path, **options)

    return read_bytes


@pytest.mark.fault("F15")
@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"a\nb\n", ["a", "b"]),
        (b"a\nb", ["a", "b"]),
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"a\rb\nc\r\nd", ["a", "b", "c", "d"]),
        (b"\xef\xbb\xbfa\r\n", ["a"]),
        (b"a\n\nb\n\n", ["a", "", "b", ""]),
        (b"\n", [""]),
        ("a\x0bb\x0cc\x1cd\x85e\u2028f\n".encode(), ["a\x0bb\x0cc\x1cd\x85e\u2028f"]),
        ("café 👩‍🚀 שלום\n".encode(), ["café 👩‍🚀 שלום"]),
        ("\ufeff\ufeffa\ufeffb\ufeff".encode(), ["\ufeffa\ufeffb\ufeff"]),
    ],
)
def test_line_ends_and_marks(read, data, lines):
    assert read(data) == lines


@pytest.mark.fault("F16")
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252"])
def test_other_encodings_when_named(read, encoding):
    assert read("café\r\nbar\n".encode(encoding), encoding=encoding) == ["café", "bar"]
    assert read("\u010a\u0a0a\n".encode("utf-16"), encoding="utf-16") == ["\u010a\u0a0a"]


@pytest.mark.fault("F15")
@pytest.mark.fault("F16")
@pytest.mark.parametrize(
    ("data", "places"),
    [
        (b"ok\ncaf\xe9\n", ["2: byte offset 6: 0xe9 is not utf-8"]),
        (b"ok\r\ncaf\xe9\r\n", ["2: byte offset 7: 0xe9"]),
        (b"\xef\xbb\xbfok\n\xff\n", ["2: byte offset 6: 0xff"]),
        (b"a\0b\nok\nc\0\n", ["1: byte offset 1: NUL", "3: byte offset 8: NUL"]),
        (b"\xed\xa0\x80\n", ["1: byte offset 0: 0xed"]),
        (b"\xc0\xaf\n\xf8\n", ["1: byte offset 0: 0xc0", "2: byte offset 3: 0xf8"]),
        (b"cut \xe2\x82", ["1: byte offset 4: 0xe2"]),
        (b"a\r\xff\0", ["2: byte offset 2: 0xff"]),
    ],
)
def test_bad_bytes_are_named_with_line_and_offset(read, data, places):
    with pytest.raises(DataError) as caught:
        read(data)
    message = str(caught.value)
    assert f"has {len(places)} problem" in message
    for place in places:
        assert f"captions.txt:{place}" in message
    assert "encoding=" in message


@pytest.mark.fault("F16")
@given(st.text(), st.text())
@example("é\r", "\nb")
def test_offset_and_line_are_exact(before, after):
    before, after = before.replace("\0", ""), after.replace("\0", "")
    at = len(before.encode())
    line = len(re.findall(r"\r\n|\r|\n", before)) + 1
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.txt")
        path.write_bytes(before.encode() + b"\xff" + after.encode())
        with pytest.raises(DataError, match="has 1 problem:") as caught:
            read_lines(path)
    assert f"x.txt:{line}: byte offset {at:,}: 0xff" in str(caught.value)


@pytest.mark.fault("F16")
def test_utf16_without_being_told(read):
    with pytest.raises(DataError, match="encoding='utf-16'"):
        read("a dog\n".encode("utf-16"))
    with pytest.raises(DataError, match="NUL"):
        read("a dog\n".encode("utf-16-le"))


@pytest.mark.fault("F16")
@pytest.mark.parametrize("data", [b"\xff\xfea", b"\xff\xfe\x00\xd8", "a\0b".encode("utf-16")])
def test_broken_utf16(read, data):
    with pytest.raises(DataError, match="not utf-16 text"):
        read(data, encoding="utf-16")


@pytest.mark.fault("F16")
@pytest.mark.parametrize("encoding", ["utf-9", "rot13", "hex", ""])
def test_unknown_encoding(read, encoding):
    with pytest.raises(ConfigError, match="encoding="):
        read(b"a", encoding=encoding)


@pytest.mark.fault("F15")
def test_many_problems_are_counted_and_ten_are_shown(read):
    with pytest.raises(DataError, match="has 5,000 problems") as caught:
        read(b"\xff\n" * 5000)
    message = str(caught.value)
    assert message.count("captions.txt:") == 10
    assert "and 4,990 more" in message


@pytest.mark.fault("F15")
def test_files_that_cannot_be_read(tmp_path, monkeypatch):
    (tmp_path / "empty.txt").touch()
    for name, message in [
        ("absent.txt", "is not a file"),
        (".", "is not a file"),
        ("empty.txt", "is empty"),
        ("x" * 300, "cannot be read"),
    ]:
        with pytest.raises(DataError, match=message):
            read_lines(tmp_path / name)
    (tmp_path / "long.txt").write_bytes(b"x" * 11)
    monkeypatch.setattr(captions, "MAX_BYTES", 10)
    with pytest.raises(DataError, match=r"11 bytes; the limit .* 10"):
        read_lines(tmp_path / "long.txt")


@pytest.mark.fault("F15")
def test_a_line_of_ten_megabytes(read):
    assert [len(line) for line in read(b"a\n" + b"x" * 10_000_000 + b"\nb")] == [1, 10_000_000, 1]


@pytest.mark.fault("F15")
@pytest.mark.fault("F16")
@given(st.binary(), st.sampled_from(["utf-8", "utf-16", "utf-8-sig", "ascii", "latin-1", "utf-7"]))
def test_any_bytes_give_lines_or_a_data_error(data, encoding):
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        try:
            lines = read_lines(file.name, encoding)
        except DataError:
            return
    assert not set("\0\r\n") & set("".join(lines))


# ------------------------------------------------------------------- cleaning


@pytest.mark.fault("F16")
@pytest.mark.fault("F17")
@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("  A dog .  ", "A dog ."),
        ("a\t b\u00a0c\u3000d\x0be", "a b c d e"),
        ("e\u0301", "é"),
        ("👩‍🚀 runs", "👩‍🚀 runs"),
        ("می‌خواهم", "می‌خواهم"),
        ("a", "a"),
        (".", "."),
        ("", None),
        (" \t\u00a0\u2003", None),
        ("\u200b", None),
        ("\ufeff \u200d\u2060", None),
        ("\x07\x1b", None),
    ],
)
def test_clean_caption(text, clean):
    assert clean_caption(text) == clean


@given(st.text())
def test_clean_is_stable_and_keeps_every_word(text):
    clean = clean_caption(text)
    if clean is not None:
        assert clean_caption(clean) == clean
        assert unicodedata.is_normalized("NFC", clean)
        assert clean.split() == unicodedata.normalize("NFC", text).split()
        assert clean.strip()


@pytest.mark.fault("F16")
@pytest.mark.parametrize("text", ["\ud83d", "a dog \udc00"])
def test_half_a_surrogate_pair(text):
    with pytest.raises(DataError, match="surrogate") as caught:
        clean_caption(text)
    str(caught.value).encode()  # the message itself can be printed


def test_problems_are_silent_when_there_are_none(tmp_path):
    Problems(tmp_path).raise_if_any("nothing")


def test_one_problem(tmp_path):
    problems = Problems(tmp_path / "x.txt")
    problems.add(7, "no tab")
    with pytest.raises(DataError) as caught:
        problems.raise_if_any("Add one.")
    head, line, remedy = str(caught.value).split("\n")
    assert head == f"{tmp_path / 'x.txt'} has 1 problem:"
    assert line == f"  {tmp_path / 'x.txt'}:7: no tab"
    assert remedy == "Add one."


def test_excerpt_is_short_and_printable():
    assert excerpt("naïve") == "'naïve'"
    assert excerpt("\x1b[31m") == r"'\x1b[31m'"
    assert excerpt("x" * 10_000_000) == "'" + "x" * 60 + "'…"
