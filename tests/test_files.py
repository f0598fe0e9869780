"""What is written is there whole or not at all, and nothing of anybody else's is lost."""

from pathlib import Path

import pytest

from mmattn import files
from mmattn.errors import ConfigError
from mmattn.files import folder_written_whole, is_unfinished, write_whole, written_whole


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


def test_what_lasts_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(files.os, "fsync", lambda _: synced.append(list(tmp_path.iterdir())))
    write_whole(tmp_path / "a", b"1")
    assert synced == []
    write_whole(tmp_path / "b", b"2", lasting=True)
    (present,) = synced
    assert tmp_path / "b" not in present
    assert [is_unfinished(path) for path in sorted(present)] == [True, False]
    assert (tmp_path / "b").read_bytes() == b"2"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def write_folder(folder, text="new", own=("a",)):
    with folder_written_whole(folder, own) as unfinished:
        (unfinished / "a").write_text(text)


def test_folders_above_are_made_and_nothing_is_left_beside(tmp_path):
    write_folder(str(tmp_path / "above" / "folder"))
    assert (tmp_path / "above" / "folder" / "a").read_text() == "new"
    assert names(tmp_path / "above") == ["folder"]


def test_an_empty_folder_and_one_of_the_same_kind_are_replaced(tmp_path):
    (tmp_path / "folder").mkdir()
    write_folder(tmp_path / "folder", "old")
    write_folder(tmp_path / "folder", "new")
    assert (tmp_path / "folder" / "a").read_text() == "new"
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize("own", [(), ("a", "b")])
def test_a_folder_with_anything_else_in_it_is_left_alone(tmp_path, own):
    for name in ("1", "2", "3", "4", "5"):
        (tmp_path / name).write_text("precious")
    with pytest.raises(ConfigError, match=r"other files \('1', '2', '3', '4' …\), which would"):
        write_folder(tmp_path, own=own)
    assert names(tmp_path) == ["1", "2", "3", "4", "5"]


def test_a_file_in_its_place_is_left_alone(tmp_path):
    (tmp_path / "folder").write_text("precious")
    with pytest.raises(ConfigError, match="folder is a file: give an empty or a new folder"):
        write_folder(tmp_path / "folder")
    assert (tmp_path / "folder").read_text() == "precious"


def test_a_link_to_a_folder_is_followed_and_home_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_folder("~/folder", "old")
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    write_folder(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "folder" / "a").read_text() == "new"


def test_while_a_folder_is_written_the_old_one_can_be_read(tmp_path):
    write_folder(tmp_path / "folder", "old")
    with folder_written_whole(tmp_path / "folder", ["a"]) as unfinished:
        (unfinished / "a").write_text("new")
        assert (tmp_path / "folder" / "a").read_text() == "old"
        assert unfinished.parent == tmp_path  # one file system: renaming is all that is left
    assert (tmp_path / "folder" / "a").read_text() == "new"


@pytest.mark.parametrize("older", [False, True])
def test_a_folder_that_broke_off_leaves_what_was_there(tmp_path, older):
    if older:
        write_folder(tmp_path / "folder", "old")
    with pytest.raises(OSError, match="full"), folder_written_whole(tmp_path / "folder", ["a"]):
        raise OSError("full")
    assert names(tmp_path) == (["folder"] if older else [])
    if older:
        assert (tmp_path / "folder" / "a").read_text() == "old"


def test_where_the_new_folder_cannot_be_renamed_the_old_one_comes_back(tmp_path, monkeypatch):
    write_folder(tmp_path / "folder", "old")
    rename = Path.rename

    def refused(self, target):
        if self.suffix == ".tmp":
            raise OSError(13, "Permission denied", str(self))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(OSError, match="Permission denied"):
        write_folder(tmp_path / "folder")
    assert (tmp_path / "folder" / "a").read_text() == "old"
    assert names(tmp_path) == ["folder"]
