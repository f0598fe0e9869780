"""The images of a job: each once, in order, by the name that was given."""

import io
from pathlib import Path

import pytest

from mmattn.cli.inputs import Input, named_images, numbered, outside
from mmattn.errors import ConfigError, DataError

ALL = [f"photos/{i}.png" for i in (0, 1, 2, 4, 5, 6)] + ["photos/deep/3.png", "photos/deep/7.png"]


@pytest.fixture
def stdin(monkeypatch):
    """Let stdin say something."""
    return lambda text: monkeypatch.setattr("sys.stdin", io.StringIO(text))


def names(*arguments):
    return [str(path) for path in named_images(arguments)]


def test_folders_files_and_patterns_in_the_order_of_the_arguments(photos):
    assert names("photos") == ALL
    assert names("photos/5.png", "photos/deep", "photos/[01].png", "no.png") == [
        *("photos/5.png", "photos/deep/3.png", "photos/deep/7.png", "photos/0.png", "photos/1.png"),
        "no.png",
    ]


def test_an_image_is_there_once_however_often_it_is_named(photos):
    assert names(
        "photos/1.png", "photos", "photos/deep/../1.png", str(photos / "1.png"), "./photos"
    ) == [
        "photos/1.png",
        *(name for name in ALL if name != "photos/1.png"),
    ]


def test_a_link_is_an_image_of_its_own(photos):
    Path("link.png").symlink_to("photos/1.png")
    assert names("link.png", "photos/1.png") == ["link.png", "photos/1.png"]


def test_stdin_gives_one_name_a_line(photos, stdin):
    stdin("photos/2.png\n\n  \nphotos/deep\r\nphotos/[01].png\nnowhere ü.png\nphotos/1.png")
    assert names("photos/1.png", "-") == [
        *("photos/1.png", "photos/2.png", "photos/deep/3.png", "photos/deep/7.png"),
        *("photos/[01].png", "nowhere ü.png"),  # a file's name, and no pattern
    ]


@pytest.mark.fault("F32")
def test_no_name_is_refused(photos, stdin, monkeypatch):
    stdin("\n\n")
    with pytest.raises(DataError, match="stdin named no image: give one path a line"):
        named_images(["-"])
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(DataError, match="stdin is closed"):
        named_images(["-"])


def test_what_means_no_image_is_refused(photos, tmp_path):
    (tmp_path / "empty").mkdir()
    for wrong in ("empty", "photos/*.gif", ""):
        with pytest.raises(DataError, match="no image"):
            named_images(["photos", wrong])


def test_the_own_pictures_of_a_job_are_no_inputs(photos):
    """Else the second run would caption the overlays that the first drew."""
    images = named_images(["photos", "photos/deep/../deep/3.png"])
    for folder in (Path("photos/deep"), photos / "deep", Path("./photos/x/../deep")):
        assert list(map(str, outside(images, folder))) == ALL[:-2]
    assert outside(images, Path("photos/dee")) == images
    with pytest.raises(ConfigError, match=r"all images lie in photos, .*with --attention"):
        outside(images, Path("photos"))


def test_every_image_has_its_place_and_a_page_of_its_own(photos):
    found = numbered(named_images(["photos/deep", "photos/0.png"]))
    assert [(one.name, one.place, str(one.page)) for one in found] == [
        ("photos/deep/3.png", 0, "photos/deep/3.png"),
        ("photos/deep/7.png", 1, "photos/deep/7.png"),
        ("photos/0.png", 2, "photos/0.png"),
    ]
    picture = found[2].picture(max_pixels=10**6)
    assert (picture.name, picture.place, picture.read().shape) == ("photos/0.png", 2, (3, 16, 24))
    assert found[2] == Input(Path("photos/0.png"), 2, Path("photos/0.png"))
