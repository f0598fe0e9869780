import pytest

from mmattn.files import write_whole, written_whole


def test_a_file_is_written_with_its_folder(tmp_path):
    write_whole(tmp_path / "new" / "a", b"1")
    write_whole(str(tmp_path / "new" / "a"), b"2")
    assert [p.read_bytes() for p in (tmp_path / "new").iterdir()] == [b"2"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a"
    write_whole(path, b"old")
    monkeypatch.setattr(type(path), "replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_a_library_writes_is_whole_too_and_keeps_its_rights(tmp_path):
    path = tmp_path / "new" / "a"
    write_whole(path, b"old")
    with written_whole(path) as unfinished:
        unfinished.unlink()
        unfinished.touch(mode=0o600)  # as safetensors does
        unfinished.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    (tmp_path / "b").touch()
    assert path.stat().st_mode == (tmp_path / "b").stat().st_mode


def test_what_broke_off_inside_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a"
    write_whole(path, b"old")

    def break_off():
        with written_whole(path) as unfinished:
            unfinished.write_bytes(b"ne")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        break_off()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
