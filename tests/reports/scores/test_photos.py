import pytest

from mmattn.data.caption_files.entry import Entry
from mmattn.data.caption_files.matching import Pair
from mmattn.errors import DataError
from mmattn.reports.scores.photos import photos_of


def pair(key, name=None):
    return Pair(Entry(key, ("a",), name, "1"), Entry(key, ("a",), name, "1"))


@pytest.fixture
def folder(tmp_path):
    """The folder of photos, beside a file that is none of them."""
    for name in ("photos/a.png", "photos/deep/b.png", "secret.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path / "photos"


def test_photos_are_found_by_the_ends_of_their_paths(folder):
    pairs = [pair("/home/me/photos/deep/b.png", "/home/me/photos/deep/b.png"), pair(7, "x/a.png")]
    assert photos_of(pairs, folder) == [folder / "deep" / "b.png", folder / "a.png"]


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "link.png", "deep", "x" * 300])
def test_nothing_outside_of_the_folder_is_found(folder, name):
    (folder / "link.png").symlink_to(folder.parent / "secret.png")
    with pytest.raises(DataError, match=r"predictions whose photo is not in .*photos: 1 \('"):
        photos_of([pair(name, name)], folder)


def test_images_that_are_only_numbers_are_said(folder):
    with pytest.raises(DataError, match=r"numbers in both files, .*: 2 \(3, 4\)"):
        photos_of([pair(3), pair(7, "a.png"), pair(4)], folder)


def test_one_photo_is_that_of_one_image(folder):
    with pytest.raises(DataError, match=r"a\.png may be the photo of 'x/a\.png' and of 'y/a\.png'"):
        photos_of([pair("x/a.png", "x/a.png"), pair("y/a.png", "y/a.png")], folder)
