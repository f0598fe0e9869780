"""Tar files read by their headers: as tarfile reads them, and every crafted one refused."""

import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmattn.data.problems import Problems
from mmattn.data.shards import tar
from mmattn.data.shards.tar import tar_members
from mmattn.errors import DataError


def member(name, data=b"x", kind=tarfile.REGTYPE, **fields):
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def archive(*members, style=tarfile.USTAR_FORMAT):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=style) as written:
        for info, data in members:
            written.addfile(info, io.BytesIO(data))
    return file.getvalue()


def read(data):
    problems = Problems("x.tar")
    found = tar_members(io.BytesIO(data), len(data), problems)
    problems.raise_if_any("")
    return found


def refused(data):
    with pytest.raises(DataError) as caught:
        read(data)
    return str(caught.value)


STYLES = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
names = st.text("abcdé😀 ._-/", min_size=1, max_size=150).filter(
    lambda name: ".." not in name and name.strip("/.") and not name.startswith("/")
)


@settings(max_examples=40)
@given(
    st.sampled_from(["gnu", "pax"]),
    st.lists(st.tuples(names, st.binary(max_size=1200)), max_size=5, unique_by=lambda t: t[0]),
)
def test_members_are_those_that_tarfile_finds(style, files):
    files = [(name.rstrip("/"), data) for name, data in files]
    if len({name for name, _ in files}) < len(files):
        return
    data = archive(*(member(name, text) for name, text in files), style=STYLES[style])
    with tarfile.open(fileobj=io.BytesIO(data)) as reference:
        expected = [(m.name, m.offset_data, m.size) for m in reference.getmembers()]
    assert [(m.name, m.offset, m.size) for m in read(data)] == expected


@pytest.mark.parametrize("style", STYLES)
def test_long_names_folders_and_global_headers(style):
    long = "/".join(["photos" * 10, "x" * 80 + ".jpg"])
    folder = member("photos", b"", tarfile.DIRTYPE)
    data = archive(folder, member(long, b"abc"), style=STYLES[style])
    (found,) = read(data)
    assert found.name == long
    assert data[found.offset : found.offset + found.size] == b"abc"
    file = io.BytesIO()
    comment = {"comment": "git writes such a one"}
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT, pax_headers=comment) as t:
        t.addfile(*(lambda info, data: (info, io.BytesIO(data)))(*member("é.jpg")))
    assert [each.name for each in read(file.getvalue())] == ["é.jpg"]


def test_names_that_differ_in_case_are_two_members():
    assert len(read(archive(member("A.jpg"), member("a.jpg")))) == 2


@pytest.mark.fault("F20")
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (tarfile.LNKTYPE, "is a hard link"),
        (tarfile.SYMTYPE, "is a symbolic link"),
        (tarfile.CHRTYPE, "is a character device"),
        (tarfile.BLKTYPE, "is a block device"),
        (tarfile.FIFOTYPE, "is a pipe"),
        (tarfile.GNUTYPE_SPARSE, "is a sparse file"),
        (b"Z", "is of the unknown kind b'Z'"),
    ],
)
def test_what_is_no_file_is_refused_by_name(kind, said):
    data = archive(
        member("good.jpg"), member("bad.jpg", b"", kind, linkname="/etc/passwd"), member("../x.jpg")
    )
    message = refused(data)
    assert f"x.tar:offset 1,024: 'bad.jpg' {said}" in message
    assert "'../x.jpg' holds '..'" in message


@pytest.mark.fault("F19")
@pytest.mark.fault("F20")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("../../etc/passwd", "holds '..'"),
        ("a/../../b.jpg", "holds '..'"),
        ("/etc/passwd", "is absolute"),
        ("C:\\x.jpg", "holds a backslash"),
        ("C:x.jpg", "is absolute"),
        (".", "names no file"),
    ],
)
@pytest.mark.parametrize("style", STYLES)
def test_names_that_leave_the_folder(name, said, style):
    assert said in refused(archive(member(name), style=STYLES[style]))


@pytest.mark.fault("F20")
def test_a_pax_header_can_hide_no_name_size_or_sparse_file():
    for headers, said in [
        ({"path": "../x.jpg"}, "holds '..'"),
        ({"path": "a\0b.jpg"}, "holds a NUL"),
        ({"size": "999999999"}, "it is cut short or damaged"),
        ({"size": "-1"}, "a damaged pax header"),
        ({"size": "1" * 30}, "a damaged pax header"),
        ({"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}, "is a sparse file"),
        ({"path": "x" * 5000}, "a name of 5,000 bytes"),
    ]:
        info, data = member("good.jpg", pax_headers=headers)
        assert said in refused(archive((info, data), style=tarfile.PAX_FORMAT)), headers


@pytest.mark.fault("F20")
def test_the_same_name_twice():
    message = refused(archive(member("a.jpg"), member("a.jpg")))
    assert "x.tar:offset 1,024: 'a.jpg' is there twice, first at offset 0" in message


def changed(data, start, new, *, mend=True):
    """Overwrite bytes of the first header, and mend its checksum."""
    block = bytearray(data[:512])
    block[start : start + len(new)] = new
    if mend:
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + data[512:]


WHOLE = archive(member("a.jpg", b"x" * 700))


@pytest.mark.fault("F20")
@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "offset 0: the file is cut short, it ends at 0 bytes"),
        (b"<html>" * 200, "offset 0: no tar header"),
        (WHOLE[:300], "offset 0: the file is cut short"),
        (WHOLE[:1000], "offset 0: 'a.jpg' has 700 bytes by its header, and the file ends at 1,000"),
        (WHOLE[:1536], "offset 1,536: the file is cut short"),
        (WHOLE[:2048], "offset 2,048: the file is cut short"),
        (WHOLE[:2048] + b"\1" + bytes(511), "one block of zeros, where the end has two"),
        (WHOLE + WHOLE, "something follows the end of the archive"),
        (changed(WHOLE, 0, b"b", mend=False), "offset 0: no tar header, or a damaged one"),
        (changed(WHOLE, 124, b"77777777777\0"), "'a.jpg' has 8,589,934,591 bytes by its header"),
        (changed(WHOLE, 124, b"\x80" + b"\xff" * 11), "bytes by its header, and the file ends"),
        (changed(WHOLE, 124, b"\xff" * 12), "its size is b'"),
        (changed(WHOLE, 124, b"-0000000001\0"), "its size is b'-0"),
        (changed(WHOLE, 0, b"\xff.jpg\0"), "is not UTF-8"),
        (changed(WHOLE, 156, b"x"), "a damaged pax header"),
        (changed(WHOLE, 156, b"g"), "a damaged pax header"),
    ],
)
def test_what_breaks_the_format(data, said):
    assert said in refused(data)


@pytest.mark.fault("F20")
def test_headers_that_only_tell_of_others_are_bounded():
    data = archive(
        member("././@LongLink", b"x" * (tar.MAX_EXTENSION + 1), tarfile.GNUTYPE_LONGNAME)
    )
    assert "1,048,577 bytes of names and attributes" in refused(data)
    file = io.BytesIO()
    everyone = {"path": "same.jpg"}
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT, pax_headers=everyone):
        pass
    assert "gives all members the same path" in refused(file.getvalue())


@pytest.mark.fault("F20")
def test_many_tiny_pax_records_take_no_time():
    data = archive(member("pax", b"5 a=\n" * 50_000, tarfile.XHDTYPE), member("a.jpg"))
    assert [each.name for each in read(data)] == ["a.jpg"]


class Endless(io.RawIOBase):
    """A file of a million empty members, made as it is read."""

    size = 512 * (1_000_000 + 2)

    def __init__(self):
        self.at, self.reads = 0, 0

    def seek(self, offset, whence=0):
        self.at = offset
        return offset

    def read(self, count=-1):
        self.reads += 1
        return member(f"{self.at}.jpg", b"")[0].tobuf(tarfile.USTAR_FORMAT)[:count]


@pytest.mark.fault("F20")
def test_a_million_members_are_refused_without_reading_them_all(monkeypatch):
    monkeypatch.setattr(tar, "MAX_MEMBERS", 200)
    problems, file = Problems("x.tar"), Endless()
    tar_members(file, file.size, problems)  # pyright: ignore[reportArgumentType]
    with pytest.raises(DataError, match="more than 200 members"):
        problems.raise_if_any("")
    assert file.reads == 201


@pytest.mark.fault("F20")
@settings(max_examples=100)
@given(st.binary(max_size=40), st.integers(0, 1600))
def test_any_bytes_are_read_or_refused(data, at):
    broken = WHOLE[:at] + data + WHOLE[at + len(data) :]
    try:
        found = read(broken)
    except DataError:
        return
    assert all(0 <= each.offset <= each.offset + each.size <= len(broken) for each in found)
