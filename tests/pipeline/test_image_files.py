"""What paths, folders and patterns mean, also strange ones."""

import os
from pathlib import Path

import pytest

from mmattn.errors import DataError
from mmattn.pipeline.image_files import at_home, image_files, named_file


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder with images (by their names), and other things."""
    monkeypatch.chdir(tmp_path)
    for name in ["a.jpg", "B.JPEG", "photos/b.png", "photos/deep/er/c.tiff", "photos/notes.txt"]:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    (tmp_path / "photos" / "folder.jpg").mkdir()
    (tmp_path / "empty").mkdir()
    return tmp_path


def names(given):
    return [str(path) for path in image_files(given)]


def test_a_folder_means_all_images_below_it_in_order(place):
    assert names("photos") == ["photos/b.png", "photos/deep/er/c.tiff"]
    assert names(place) == [
        f"{place}/{name}" for name in ("B.JPEG", "a.jpg", "photos/b.png", "photos/deep/er/c.tiff")
    ]
    assert names(".") == ["B.JPEG", "a.jpg", "photos/b.png", "photos/deep/er/c.tiff"]


def test_a_pattern_means_the_images_that_fit_it_relative_or_absolute(place):
    assert names("photos/*") == ["photos/b.png"]
    assert names("**/*.png") == ["photos/b.png"]
    assert names("photos/**") == ["photos/b.png", "photos/deep/er/c.tiff"]
    assert names(place / "**" / "*") == names(place)
    assert names("[aB].*") == ["B.JPEG", "a.jpg"]
    assert names("./photos/?.png") == ["photos/b.png"]


def test_a_file_that_is_named_is_taken_at_its_word(place):
    assert names("a.jpg") == ["a.jpg"]
    assert names("photos/notes.txt") == ["photos/notes.txt"]
    assert names("nowhere.jpg") == ["nowhere.jpg"]


def test_what_exists_is_no_pattern(place):
    for name in ("[a].jpg", "what?.jpg", "*.jpg"):
        (place / name).touch()
        assert names(name) == [name]
    (place / "[x].png").symlink_to("nowhere")  # a link that leads nowhere is still this very one
    assert names("[x].png") == ["[x].png"]


def test_folders_that_are_links_are_not_followed_round_and_round(place):
    (place / "photos" / "round").symlink_to(place / "photos")
    (place / "photos" / "link.png").symlink_to("b.png")
    (place / "photos" / "broken.png").symlink_to("nowhere")
    assert names("photos") == ["photos/b.png", "photos/deep/er/c.tiff", "photos/link.png"]


def test_pipes_in_a_folder_are_no_images(place):
    os.mkfifo(place / "photos" / "pipe.png")
    assert names("photos") == ["photos/b.png", "photos/deep/er/c.tiff"]
    assert names("photos/pipe.png") == ["photos/pipe.png"]  # which is said when it is read


@pytest.mark.parametrize("given", ["empty", "empty/*", "nothing/**/*.jpg", "a.jp[h]"])
def test_what_means_no_image_is_refused(place, given):
    with pytest.raises(DataError, match=r"no image.*looked for \.bmp, "):
        image_files(given)


def test_no_name_at_all_is_refused(place):
    with pytest.raises(DataError, match="'' names no image"):
        image_files("")


def test_a_folder_that_may_not_be_looked_into_is_refused_by_its_name(place, monkeypatch):
    scandir = os.scandir

    def scan(path):  # not by its permissions: root may look everywhere
        if Path(path).name == "deep":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", scan)
    with pytest.raises(DataError, match=r"photos/deep cannot be looked into \(permission denied\)"):
        image_files("photos")


@pytest.mark.parametrize(
    "given", ["x" * 300 + "*.jpg", "a\0b", "a.jpg/b.jpg", "~nobody-of-this-name.jpg"]
)
def test_names_that_no_file_can_have_are_found_out_when_they_are_read(place, given):
    assert names(given) == [given]


def test_home_is_where_the_user_lives(place, monkeypatch):
    monkeypatch.setenv("HOME", str(place))
    assert names("~/a.jpg") == [f"{place}/a.jpg"]
    assert at_home("~") == place


def test_a_line_of_a_list_is_a_file_or_a_folder_and_no_pattern(place):
    assert named_file("*.jpg") == [Path("*.jpg")]
    assert named_file("photos") == image_files("photos")
    assert named_file("x" * 300) == [Path("x" * 300)]
    assert named_file("nowhere") == [Path("nowhere")]
    with pytest.raises(DataError, match="empty holds no image"):
        named_file("empty")
