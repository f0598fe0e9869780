"""Where commands may write: nothing is lost, nothing is left behind."""

import errno
import os
import re
from pathlib import Path

import pytest

from mmattn.cli.places import check_file, check_folder
from mmattn.errors import ConfigError


def test_a_folder_that_can_be_written_is_left_as_it_was(tmp_path):
    check_folder(tmp_path, "--out")
    check_folder(tmp_path / "new" / "er", "--out")
    assert list(tmp_path.iterdir()) == []


def test_a_relative_folder_will_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_folder(Path("new/er"), "--out")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_a_folder_is_refused_with_the_option(tmp_path):
    file = tmp_path / "page.html"
    file.write_text("mine")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    for folder, reason in [
        (file, "is no folder"),
        (file / "deep" / "er", r"cannot be written \(not a directory\)"),
        (link, "is no folder"),
        (tmp_path / ("n" * 300), r"cannot be written \(file name too long\)"),
    ]:
        wanted = f"^{re.escape(str(folder))} {reason}: give another folder with --out$"
        with pytest.raises(ConfigError, match=wanted):
            check_folder(folder, "--out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "page.html"]
    assert file.read_text() == "mine"
    assert link.is_symlink()


def test_a_folder_of_another_is_refused(tmp_path, monkeypatch):
    def denied(dir: Path):
        raise PermissionError(errno.EACCES, "Permission denied", str(dir))

    # Not by its permissions: root, who runs many a container, may write everywhere.
    monkeypatch.setattr("mmattn.cli.places.TemporaryFile", denied)
    with pytest.raises(ConfigError, match="permission denied"):
        check_folder(tmp_path / "new", "--out")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_can_be_written_is_left_as_it_was(tmp_path):
    (tmp_path / "old").write_text("mine")
    (tmp_path / "link").symlink_to("old")
    before = sorted(tmp_path.iterdir())
    for name in ("old", "link", "new/er"):
        check_file(tmp_path / name, "--html", others={"--per-image": tmp_path / "x", "--to": None})
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "old").read_text() == "mine"


def test_what_a_file_would_take_the_place_of_is_said(tmp_path, monkeypatch):
    (tmp_path / "input").write_text("mine")
    (tmp_path / "link").symlink_to("input")
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)
    for path, reason in [
        (".", "is a folder: give a file, such as page.html"),
        ("pipe", "is no regular file: give another file"),
        (os.devnull, "is no regular file: give another file"),
        ("input", "is the file of --references: give another file"),
        ("link", "is the file of --references: give another file"),
        (str(tmp_path / "input"), "is the file of --references: give another file"),
        (f"../{tmp_path.name}/input", "is the file of --references: give another file"),
    ]:
        others = {"--split": None, "--references": Path("input")}
        with pytest.raises(ConfigError, match=f"^--html {re.escape(path)} {re.escape(reason)}$"):
            check_file(Path(path), "--html", others=others, example="page.html")
    with pytest.raises(ConfigError, match="input is no folder: give another folder"):
        check_file(tmp_path / "input" / "page.html", "--html")
